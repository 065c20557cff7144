// How well a model predicts a text, alone and against another.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "ptq/model/model.h"

namespace ptq {

// Hidden states of texts that are measured together.
inline constexpr int64_t kStreamBytes = int64_t{128} << 20;

// exp(mean_nll), in nats. Throws Error, naming `model`, if it passes the largest float64.
double perplexity_of(double mean_nll, const std::string& model);

// Sums over predicted tokens, in nats. In each window every token but the first is predicted.
struct LossSums {
  int64_t tokens = 0;
  double nll = 0;
  // Against a reference model; 0 without one.
  double reference_nll = 0;
  double kl = 0;         // sum of KL(reference || model)
  int64_t agreeing = 0;  // tokens at which both have the same most likely successor

  double mean_nll() const { return nll / static_cast<double>(tokens); }
  // Throw Error if the perplexity passes the largest float64.
  double perplexity() const;
  double reference_perplexity() const;
};

// Of how many tokens the logits may be held at a time.
int64_t rows_of_logits(const Model& model);

// What the model predicts after states [tokens, d_model]: [tokens, vocab], log-probabilities in nats. `head`
// is for messages. Throws Error if a logit is NaN or infinite.
Tensor log_probabilities(const Model& model, const Tensor& states, const char* head);

// Adds the losses of rows whose hidden states after the last block are known: hidden [rows, length, d_model],
// ids [rows, length]. `reference` and `reference_hidden` are both given or both absent. Logits are made for a
// few hundred tokens at a time; throws Error if one is NaN or infinite.
void add_losses(LossSums& sums, const Model& model, const Tensor& hidden, const Tensor& ids,
                const Model* reference, const Tensor& reference_hidden);

// How windows go through a block: as a whole, or token by token with a state, as decoding does, which is slow
// and shows what a state that is rounded between tokens costs.
enum class Feeding { kWindows, kTokens };

// The hidden states after the last block, of ids [windows, length]: [windows, length, d_model]. Blocks are
// loaded one at a time; `on_block` is called after each. Throws Error as advance() does.
Tensor run_blocks(
    const Model& model, const Tensor& ids, const std::function<void()>& on_block = [] {},
    const Compute& compute = {}, Feeding feeding = Feeding::kWindows);

// Windows of `length` ids that do not overlap, in order; the last short one is dropped, unless it is the only
// one. [windows, length]. Throws Error if there are fewer than 2 ids.
Tensor evaluation_windows(const std::vector<int64_t>& ids, int64_t length, const std::string& where);

// Losses over windows [windows, length]. Blocks are loaded one at a time; as many windows go through together
// as keep their hidden states within kStreamBytes. `on_block` is called after each block of each group of
// windows. Throws Error, naming the block and the site, or the head, where the first value is NaN or
// infinite. `compute` and `feeding` are the model's, not the reference's.
LossSums evaluate(const Model& model, const Tensor& windows, const Model* reference,
                  const std::function<void()>& on_block, const Compute& compute = {},
                  Feeding feeding = Feeding::kWindows);

// How often evaluate() calls on_block.
int64_t evaluation_steps(const Model& model, const Tensor& windows, const Model* reference);

}  // namespace ptq
