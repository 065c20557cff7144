// What `quantize bench` measures: the machine, and models.
#pragma once

#include "bench_worker.h"
#include "commands.h"

namespace ptq {

// A repeat gives
//   "read_gb_per_second"     a sum over a buffer that no cache holds, on all threads
//   "integer_gop_per_second" the program's own product of 8-bit codes with operands that caches hold, two
//                            operations a multiplication; no faster product is known to the program
BenchSubject machine_subject();

// About: "load_ms", "context_limit", "parameters" (those of the blocks), "step_bytes" (as stored, of
// all tensors that a decoding step reads). A repeat, after one that is not counted:
//   "prefill_seconds"   the prompt's tokens at once, up to the first token written
//   "decode_seconds"    the tokens after it, one at a time
//   "peak_rss_bytes"    of the process so far
// Prompts are random ids of the seed. Throws Error, as what opens a model does.
BenchSubject model_subject(const BenchOptions& options, const std::string& path,
                           const CheckpointOptions& checkpoint, const CommonOptions& common);

}  // namespace ptq
