// Deals channels to blocks so that every block gets its share of the large ones.
//
// A rotation spreads an outlier over its own block only, so a block with many large channels stays worse than
// the others. Sorted and dealt back and forth, four channels with maxima 9 8 2 1 go to two blocks as (9, 1)
// and (8, 2): the block that gets the larger of one round gets the smaller of the next. Cost: a sort of C
// values once, a gather of every row online. Reference: arXiv 2406.01721, section 3.3; its bound on how far
// the blocks' means can differ holds for any such deal.
#include "ptq/base/error.h"
#include "ptq/solve/rotation_search.h"

namespace ptq {

Tensor zigzag(const Tensor& channel_abs_max, int64_t block) {
  const int64_t C = channel_abs_max.numel();
  if (channel_abs_max.dim() != 1) throw Error("zigzag", "one maximum a channel is needed");
  if (block < 1 || C % block != 0)
    throw Error("zigzag",
                "blocks of " + std::to_string(block) + " do not divide " + std::to_string(C) + " channels");
  const Tensor sorted =
      std::get<1>(at::sort(channel_abs_max.to(at::kCPU), /*stable=*/true, /*dim=*/-1, /*descending=*/true));
  // A row is one round of the deal; every second one runs backwards. A column is what a block has got.
  Tensor rounds = sorted.reshape({block, C / block}).clone();
  Tensor odd = rounds.slice(0, 1, block, 2);
  odd.copy_(odd.flip(1));
  return rounds.t().reshape({C});
}

}  // namespace ptq
