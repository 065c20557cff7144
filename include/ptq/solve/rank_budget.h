// Ranks shared out under a budget of bytes.
#pragma once

#include <cstdint>
#include <vector>

namespace ptq {

// What the ranks of one layer bring and cost.
struct RankOffer {
  std::vector<double> gains;  // of each further rank, descending
  int64_t bytes_per_rank = 1;
};

// The rank of each offer: one rank at a time to the largest gain a byte that still fits into `bytes`, the
// earlier offer on a tie.
std::vector<int64_t> share_ranks(const std::vector<RankOffer>& offers, int64_t bytes);

}  // namespace ptq
