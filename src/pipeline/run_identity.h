// What a run must have in common with the one that it goes on from.
#pragma once

#include <string>

#include "ptq/checkpoint/checkpoint.h"
#include "ptq/pipeline/run.h"

namespace ptq {

// All that decides the bits of a run up to its last block: program and threads, the hashes of every input,
// recipe, options. What matters only afterwards is not in it (--eval-text, --max-shard-size, --strict): a run
// that failed there may go on with other values. `report` has program, source and recipe. Throws Error if a
// file cannot be read.
Json run_identity(const RunOptions& options, const Report& report, const Checkpoint& checkpoint);

// Says where two identities differ, in a few words: `recipe.bits is "w4a4" there, "w8a8" here`. Empty if they
// are equal.
std::string identity_difference(const Json& there, const Json& here);

}  // namespace ptq
