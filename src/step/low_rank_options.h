// The options of the step low_rank.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "ptq/base/json.h"

namespace ptq {

struct LowRankStepOptions {
  std::string variant;   // "auto", "exact", "approx", "lqer", "identity"
  double shrinkage = 0;  // of "exact"
  int64_t rank = 32;
  std::vector<std::pair<std::string, int64_t>>
      ranks;                         // shell pattern of linears -> rank; the first that matches
  double target_bpw = 0;             // bits a weight of base and correction; 0: by rank
  int64_t rounds = 1;                // of rounding and correcting in turns
  std::string rounding;              // in the later rounds: "nearest" or "gptq"
  std::string stored;                // "bf16", "f16", "int8"
  std::vector<std::string> linears;  // shell patterns; empty: all
  bool compare = true;               // with other formats of equal bytes

  bool selects(const std::string& linear) const;
  int64_t rank_of(const std::string& linear) const;
  at::ScalarType stored_dtype() const;
};

// Throws a usage Error for a value that is not allowed.
LowRankStepOptions read_low_rank_options(JsonFields& options);

}  // namespace ptq
