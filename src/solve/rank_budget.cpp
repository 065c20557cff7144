#include "ptq/solve/rank_budget.h"

#include <cstddef>

namespace ptq {

std::vector<int64_t> share_ranks(const std::vector<RankOffer>& offers, int64_t bytes) {
  std::vector<int64_t> ranks(offers.size(), 0);
  while (true) {
    size_t best = offers.size();
    double most = 0;
    for (size_t i = 0; i < offers.size(); ++i) {
      const RankOffer& offer = offers[i];
      const auto next = static_cast<size_t>(ranks[i]);
      if (next >= offer.gains.size() || offer.bytes_per_rank > bytes) continue;
      const double gain = offer.gains[next] / static_cast<double>(offer.bytes_per_rank);
      if (gain > most) {
        most = gain;
        best = i;
      }
    }
    if (best == offers.size()) return ranks;
    ++ranks[best];
    bytes -= offers[best].bytes_per_rank;
  }
}

}  // namespace ptq
