// Memory has three rivals for the peak: writing the calibration text with all blocks in memory, the largest
// block on its way through the steps, and the two sets of logits that quality is measured on. Below them lie
// what is always there: libtorch, the weights around the blocks, and the hidden states of all windows.
#include "pipeline/cost.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "ptq/calibration/site_sums.h"
#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

constexpr int64_t kFloat = 4;
constexpr int64_t kProgramBytes = 160'000'000;  // libtorch, and what its kernels touch when they first run
constexpr int64_t kLogitValues = int64_t{1} << 22;  // that evaluation holds at a time
constexpr int64_t kLayerTokens = 512;               // that layers are measured on
constexpr double kHeap =
    1.3;  // pages that the heap holds between what is in use; measured on models of 1 to 90 MB
constexpr int64_t kLogitForms = 3;  // of both models: log probabilities, and logits or probabilities

int64_t values_of(const std::vector<Weight*>& weights) {
  int64_t values = 0;
  for (const Weight* weight : weights) values += weight->numel();
  return values;
}

// Values of sites and of outputs of linears that a token has while it is in a sublayer.
int64_t values_per_token(Sublayer& sublayer) {
  std::map<std::string, int64_t> inputs;
  int64_t values = 0;
  for (const Linear* linear : sublayer.linears()) {
    inputs[linear->site] = linear->weight.size(1);
    values += linear->weight.size(0);
  }
  for (const auto& [site, channels] : inputs) values += channels;
  return values;
}

int64_t batch_tokens(const RunWindows& windows) {
  return std::min(windows.windows, windows_per_batch(windows.length)) * windows.length;
}

double forward_operations(Sublayer& sublayer, int64_t windows, int64_t length) {
  double weights = 0;
  for (const Linear* linear : sublayer.linears())
    weights += linear->token_share * static_cast<double>(linear->weight.numel());
  const auto n = static_cast<double>(windows);
  return n * (2 * weights * static_cast<double>(length) + sublayer.mixing_cost(length).operations);
}

}  // namespace

RunCost::RunCost(Model& model, const RunWindows& windows) : model_(model), windows_(windows) {
  outer_values_ = values_of(model.outer_weights());
  const double head = 2.0 * static_cast<double>(model.vocab_size() * model.hidden_size());
  const int64_t predicted = windows.eval_windows > 0 ? windows.eval_windows * windows.eval_length
                                                     : windows.split.held_out * windows.length;
  text_operations_ = 2 * head * static_cast<double>(predicted);
  if (windows.self_written) text_operations_ += head * static_cast<double>(windows.windows * windows.length);
}

int64_t RunCost::add(Sublayer& sublayer, const SublayerPlan& plan) {
  const int64_t calibrated = windows_.split.calibrated, held_out = windows_.split.held_out;
  const int64_t tokens = calibrated * windows_.length;
  const auto forward = [&](int64_t windows) {
    return forward_operations(sublayer, windows, windows_.length);
  };
  operations_ +=
      static_cast<double>(plan.passes) * forward(calibrated) + forward(windows_.windows - calibrated);
  operations_ += forward(held_out);  // the block's error
  if (windows_.eval_windows > 0) {
    operations_ += 2 * forward_operations(sublayer, windows_.eval_windows, windows_.eval_length);
  } else {
    operations_ += forward(held_out);
  }
  if (windows_.self_written) text_operations_ += forward(windows_.windows);

  int64_t statistics = 0, step_bytes = 0;
  std::set<std::string> counted;  // linears share the statistics of a site
  for (const Linear* linear : sublayer.linears()) {
    const auto needs = plan.needs.find(linear->site);
    if (needs == plan.needs.end() || !counted.insert(linear->site).second) continue;
    const int64_t in = linear->weight.size(1);
    statistics += std::min(needs->second.samples, tokens) * in * kFloat;
    if (!needs->second.second_moment) continue;
    const bool shares_lanes = Batches::of(calibrated, windows_.length).count > LaneSum::kLanes;
    const int64_t sums = windows_.processes > 1 ? 1 + std::max<int64_t>(1, windows_.lanes)
                         : shares_lanes         ? 2
                                                : 1;
    statistics += in * in * 8 * sums;
    operations_ += 2 * static_cast<double>(tokens) * static_cast<double>(in * in);
  }
  for (const StepCost& cost : plan.costs) {
    operations_ += cost.operations / static_cast<double>(windows_.processes);
    operations_ += cost.forwards * forward(std::min(cost.forward_windows, held_out));
    step_bytes = std::max(step_bytes, cost.bytes);
  }

  // Once it is rounded, the sublayer is there as codes too; what it computes with is made of them once more.
  const int64_t values = values_of(sublayer.weights());
  const int64_t activations = values_per_token(sublayer) * batch_tokens(windows_) * kFloat;
  const int64_t layers =
      std::min(kLayerTokens, held_out * windows_.length) * values_per_token(sublayer) * kFloat;
  const int64_t rounding = values + step_bytes, measuring = values + values * kFloat + layers + activations;
  forward_bytes_ = std::max(forward_bytes_, activations);
  return statistics + std::max({activations, rounding, measuring});
}

void RunCost::add(Block& block, const BlockPlan& plan) {
  int64_t largest = 0;
  for (size_t i = 0; i < plan.sublayers.size(); ++i)
    largest = std::max(largest, add(block.sublayers().at(i), plan.sublayers[i]));
  const int64_t values = values_of(block.weights());
  block_bytes_ = std::max(block_bytes_, values * kFloat + largest);
  largest_block_ = std::max(largest_block_, values * (kFloat + 1));
  all_values_ += values;
  state_values_ += block.mixing_cost(windows_.length).state_values;
}

int64_t RunCost::peak_bytes() const {
  const int64_t d = model_.hidden_size(), V = model_.vocab_size();
  const int64_t outer = outer_values_ * kFloat;
  const int64_t streamed = windows_.windows + (windows_.feedback ? windows_.split.calibrated : 0);
  const int64_t stream = windows_.in_file ? 0 : streamed * windows_.length * d * kFloat;
  const int64_t held_out = windows_.split.held_out * windows_.length * d * kFloat;
  const int64_t predicted = windows_.eval_windows > 0 ? windows_.eval_windows * windows_.eval_length
                                                      : windows_.split.held_out * windows_.length;
  const int64_t logits = kLogitForms * std::min(predicted * V, std::max(kLogitValues, V)) * kFloat;
  const int64_t texts =
      2 * std::min<int64_t>(int64_t{128} << 20, windows_.eval_windows * windows_.eval_length * d * kFloat);
  int64_t peak = stream + 2 * held_out + block_bytes_;
  peak =
      std::max(peak, stream + held_out + texts + outer + std::max(logits, largest_block_ + forward_bytes_));
  if (windows_.self_written) {
    peak = std::max(
        peak, all_values_ * kFloat + windows_.windows * (state_values_ * kFloat + V * (kFloat + 3 * 8)));
  }
  return kProgramBytes + static_cast<int64_t>(kHeap * static_cast<double>(outer + peak));
}

}  // namespace ptq
