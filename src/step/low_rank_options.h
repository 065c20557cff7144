// The options of the step low_rank.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "ptq/base/json.h"

namespace ptq {

struct LowRankStepOptions {
  // What the error of a weight is measured with: the second moment (exact), its diagonal (approx), mean
  // magnitudes of channels (lqer), nothing (identity); auto takes the best of several shrinkages of the
  // first.
  enum class Variant { kAuto, kExact, kApprox, kLqer, kIdentity };

  Variant variant = Variant::kExact;
  double shrinkage = 0;  // of "exact"
  int64_t rank = 32;
  std::vector<std::pair<std::string, int64_t>>
      ranks;                              // shell pattern of linears -> rank; the first that matches
  double target_bpw = 0;                  // bits a weight of base and correction; 0: by rank
  int64_t rounds = 1;                     // of rounding and correcting in turns
  bool rounds_by_gptq = false;            // in the later rounds; else to the nearest code
  at::ScalarType stored = at::kBFloat16;  // kHalf, or kChar for codes of 8 bits
  std::vector<std::string> linears;       // shell patterns; empty: all
  bool compare = true;                    // with other formats of equal bytes

  bool selects(const std::string& linear) const;
  int64_t rank_of(const std::string& linear) const;
  // As the report spells it: "exact", "approx", "lqer" or "identity"; auto's choices are of the first kind.
  const char* variant_name() const;
  // "bf16", "f16", "int8".
  const char* stored_name() const;
};

// Throws a usage Error for a value that is not allowed.
LowRankStepOptions read_low_rank_options(JsonFields& options);

}  // namespace ptq
