// An independent reading of an output: is it what was written, and is it what the source was made into?
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptq/checkpoint/checkpoint.h"
#include "ptq/export/formats.h"

namespace ptq {

// Something that is not as it must be.
struct Finding {
  std::string where;  // a file, a tensor, a field
  std::string what;
};

// What was looked at, and what differs.
struct Verification {
  std::vector<Finding> findings;  // in the order of the checks
  int64_t files = 0;
  bool has_checksums = true;  // what other programs wrote need not
  int64_t bytes = 0;          // of all files
  int64_t tensors = 0;        // as stored: codes, scales, ...
  int64_t weights_in_codes = 0;
  int64_t weights_in_float = 0;
  int64_t sites = 0;
  // Against the source: how many weights were compared, and how.
  bool compared = false;
  int64_t within_half_step = 0;    // plain rounding: each value lies within half a step of the source's
  int64_t by_sqnr = 0;             // the error was computed again and is the one that the report states
  int64_t equal = 0;               // kept in float
  double largest_error_steps = 0;  // of plain rounding
  double largest_sqnr_difference_db = 0;  // to the report's numbers
};

// How far a recomputed weight_sqnr_db may be from the report's: the rewrites are redone in float32, in
// another order than the run's.
inline constexpr double kSqnrToleranceDb = 0.01;

// Reads every file of the output in `directory`. With `source` (else empty), the float checkpoint that it was
// made from, the rewrites are redone on the source's weights, as quantization_config says, and each is
// compared with what is stored. Whatever differs is a finding, damage included; Throws Error only if
// `directory` is no output of this program at all, or the source cannot be read. Memory: one block of the
// source.
Verification verify_artifact(const std::string& directory, const std::string& source,
                             const CheckpointOptions& source_options);

// What `format` opens at `path`, of this program or another: that every weight of the architecture is there,
// decodes, and has finite values, and that files fit their checksums if there are any. Whatever is not so is
// a finding. Memory: a weight at a time, and a block.
Verification verify_export(const std::string& path, const FormatEntry& format,
                           const CheckpointOptions& options);

}  // namespace ptq
