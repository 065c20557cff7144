// How likely a model thinks texts to be that are compared with each other: the choices of a question.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "ptq/model/model.h"

namespace ptq {

// Tokens of which the last `scored` are predicted. REQUIRES: 0 < scored < ids.size().
struct ScoredText {
  std::vector<int64_t> ids;
  int64_t scored = 0;

  bool operator==(const ScoredText&) const = default;
};

struct Likelihood {
  double log_likelihood = 0;  // of the scored tokens together, in nats
  bool greedy = true;         // each of them is the likeliest token where it stands
};

// The likelihoods of the texts of each question, in order. What the texts of a question begin with alike goes
// through the model once where that saves enough. A question's figures depend on the question alone, and not
// on those beside it. Blocks are loaded one at a time; as many questions go through together as keep their
// hidden states within kStreamBytes. `on_tokens` is called with the number of tokens that have passed a
// block. Throws Error, naming the block or the head, where a value is NaN or infinite.
std::vector<std::vector<Likelihood>> likelihoods(const Model& model,
                                                 const std::vector<std::vector<ScoredText>>& questions,
                                                 const std::function<void(int64_t)>& on_tokens,
                                                 const Compute& compute = {});

// The sum of what likelihoods() calls on_tokens with.
int64_t likelihood_steps(const Model& model, const std::vector<std::vector<ScoredText>>& questions);

}  // namespace ptq
