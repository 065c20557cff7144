#include "ptq/engine/evaluate.h"

#include <algorithm>
#include <cmath>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

constexpr int64_t kLogitValues = int64_t{1} << 22;  // logits held at a time

int64_t windows_per_group(const Model& model, const Tensor& windows) {
  const int64_t window_bytes = windows.size(1) * model.hidden_size() * static_cast<int64_t>(sizeof(float));
  return std::clamp<int64_t>(kStreamBytes / window_bytes, 1, windows.size(0));
}

// Sum in float64, in order.
double ordered_sum(const Tensor& x) {
  return x.to(at::kDouble).cpu().cumsum(0)[-1].item<double>();
}

// hidden [windows, length, d_model] becomes the block's output.
void advance_by_token(const Block& block, const Tensor& hidden) {
  BlockState state = block.initial_state(hidden.size(0), CacheFloats::kFloat32);
  for (PartState& part : state.parts) part.text_length = hidden.size(1);
  for (int64_t t = 0; t < hidden.size(1); ++t) {
    throw_if_interrupted();
    const Tensor token = hidden.slice(1, t, t + 1);
    token.copy_(block.forward(token, &state));
  }
  expect_finite(hidden, block.prefix(), "the block's output");
}

}  // namespace

double perplexity_of(double mean_nll, const std::string& model) {
  const double perplexity = std::exp(mean_nll);
  if (std::isfinite(perplexity)) return perplexity;
  throw Error(
      "perplexity",
      model + " has a mean negative log likelihood of " + Json(mean_nll).dump() +
          " nats a token, whose exponential passes the largest float64: its logits are finite, and far "
          "too large",
      "the head's weights, or those of the final norm, are damaged: `quantize inspect` shows the largest "
      "value of each tensor");
}

double LossSums::perplexity() const {
  return perplexity_of(mean_nll(), "the model");
}
double LossSums::reference_perplexity() const {
  return perplexity_of(reference_nll / static_cast<double>(tokens), "the reference model");
}

int64_t rows_of_logits(const Model& model) {
  return std::max<int64_t>(1, kLogitValues / model.vocab_size());
}

Tensor log_probabilities(const Model& model, const Tensor& states, const char* head) {
  const Tensor logits = model.logits(states);
  expect_finite(logits, head, "the logits");
  return at::log_softmax(logits, 1);
}

void add_losses(LossSums& sums, const Model& model, const Tensor& hidden, const Tensor& ids,
                const Model* reference, const Tensor& reference_hidden) {
  const int64_t length = ids.size(1);
  const auto flatten = [&](const Tensor& h) { return h.slice(1, 0, length - 1).flatten(0, 1); };
  const Tensor states = flatten(hidden);  // [rows * (length - 1), d_model]
  const Tensor reference_states = reference != nullptr ? flatten(reference_hidden) : Tensor();
  const Tensor next = ids.slice(1, 1).flatten().to(states.device()).unsqueeze(1);
  const int64_t step = rows_of_logits(model);
  const char* const head = reference != nullptr ? "the quantized model's head" : "the model's head";
  for (int64_t begin = 0; begin < states.size(0); begin += step) {
    throw_if_interrupted();
    const int64_t end = std::min(states.size(0), begin + step);
    const Tensor log_p = log_probabilities(model, states.slice(0, begin, end), head);
    const Tensor targets = next.slice(0, begin, end);
    sums.nll -= ordered_sum(log_p.gather(1, targets).flatten());
    sums.tokens += end - begin;
    if (reference == nullptr) continue;
    const Tensor log_q =
        log_probabilities(*reference, reference_states.slice(0, begin, end), "the reference model's head");
    sums.reference_nll -= ordered_sum(log_q.gather(1, targets).flatten());
    sums.agreeing += (log_p.argmax(1) == log_q.argmax(1)).sum().item<int64_t>();
    // In place: two sets of logits and one of probabilities are the largest tensors of a run.
    const Tensor q = log_q.exp();
    sums.kl += ordered_sum(q.mul_(log_q.sub_(log_p)).sum(1));
  }
}

Tensor run_blocks(const Model& model, const Tensor& ids, const std::function<void()>& on_block,
                  const Compute& compute, Feeding feeding) {
  Tensor hidden = embed_windows(model, ids);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    block->seal(compute);
    if (feeding == Feeding::kTokens) {
      advance_by_token(*block, hidden);
    } else {
      advance(*block, hidden);
    }
    on_block();
  }
  return hidden;
}

Tensor evaluation_windows(const std::vector<int64_t>& ids, int64_t length, const std::string& where) {
  const auto count = static_cast<int64_t>(ids.size());
  if (count < 2)
    throw Error(where, "has " + std::to_string(count) + " tokens; at least 2 are needed to predict one");
  const int64_t used = std::min(length, count);
  const int64_t windows = count / used;
  return at::tensor(at::ArrayRef<int64_t>(ids.data(), static_cast<size_t>(windows * used)), at::kLong)
      .reshape({windows, used});
}

LossSums evaluate(const Model& model, const Tensor& windows, const Model* reference,
                  const std::function<void()>& on_block, const Compute& compute, Feeding feeding) {
  LossSums sums;
  const int64_t step = windows_per_group(model, windows);
  for (int64_t begin = 0; begin < windows.size(0); begin += step) {
    const Tensor ids = windows.slice(0, begin, std::min(windows.size(0), begin + step));
    const Tensor hidden = run_blocks(model, ids, on_block, compute, feeding);
    const Tensor reference_hidden = reference != nullptr ? run_blocks(*reference, ids, on_block) : Tensor();
    add_losses(sums, model, hidden, ids, reference, reference_hidden);
  }
  return sums;
}

int64_t evaluation_steps(const Model& model, const Tensor& windows, const Model* reference) {
  const int64_t step = windows_per_group(model, windows);
  const int64_t groups = (windows.size(0) + step - 1) / step;
  return groups * (model.num_blocks() + (reference != nullptr ? reference->num_blocks() : 0));
}

}  // namespace ptq
