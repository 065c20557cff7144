#include "model/router.h"

#include <limits>

namespace ptq {
namespace {

using Score = RouterLayout::Score;

// [tokens, k] each.
struct Choice {
  Tensor experts, weights;
};

// The scores to choose by, 0 for the experts of groups that are not looked at.
Tensor within_best_groups(const RouterLayout& layout, const Tensor& scores) {
  if (layout.groups == 1) return scores;
  const Tensor grouped = scores.unflatten(-1, {layout.groups, -1});  // [tokens, groups, experts of one]
  const Tensor best_two = std::get<0>(grouped.topk(2, -1)).sum(-1);
  const Tensor kept =
      at::zeros_like(best_two).scatter_(-1, std::get<1>(best_two.topk(layout.chosen_groups, -1)), 1.0);
  return grouped.masked_fill(kept.unsqueeze(-1) == 0, 0.0).flatten(-2);
}

Choice choose(const RouterLayout& layout, const Tensor& logits, const Tensor& choice_bias) {
  if (layout.score == Score::kSoftmaxOfChosen) {
    const auto [best, experts] = logits.topk(layout.chosen, -1);
    return {experts, best.softmax(-1)};
  }
  const Tensor scores = layout.score == Score::kSigmoid ? logits.sigmoid() : logits.softmax(-1);
  const Tensor biased = choice_bias.defined() ? scores + choice_bias : scores;
  const Tensor experts = std::get<1>(within_best_groups(layout, biased).topk(layout.chosen, -1));
  return {experts, scores.gather(-1, experts)};
}

}  // namespace

std::vector<Routed> route(const RouterLayout& layout, const Tensor& logits, const Tensor& choice_bias) {
  Choice choice = choose(layout, logits, choice_bias);
  if (layout.normed) {
    // Sigmoids may all be 0; softmaxes are not.
    const double least = layout.score == Score::kSigmoid ? 1e-20 : 0;
    choice.weights = choice.weights / (choice.weights.sum(-1, true) + least);
  }
  if (layout.scale != 1) choice.weights = choice.weights * layout.scale;
  const Tensor experts = choice.experts.cpu().contiguous(), weights = choice.weights.cpu().contiguous();
  const auto* expert = experts.const_data_ptr<int64_t>();
  const auto* weight = weights.const_data_ptr<float>();
  std::vector<Routed> routed(static_cast<size_t>(logits.size(-1)));
  for (int64_t i = 0; i < experts.numel(); ++i) {
    Routed& of_one = routed[static_cast<size_t>(expert[i])];
    of_one.tokens.push_back(i / layout.chosen);
    of_one.weights.push_back(weight[i]);
  }
  return routed;
}

}  // namespace ptq
