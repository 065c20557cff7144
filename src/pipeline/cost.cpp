// Memory has three rivals for the peak: writing the calibration text with all blocks in memory, the largest
// block on its way through the steps, and the two sets of logits that quality is measured on. Below them lie
// what is always there: libtorch, the weights around the blocks, and the hidden states of all rows.
#include "pipeline/cost.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "ptq/calibration/stream.h"
#include "ptq/model/decoder.h"

namespace ptq {
namespace {

constexpr int64_t kFloat = 4;
constexpr int64_t kProgramBytes = 160'000'000;  // libtorch, and what its kernels touch when they first run
constexpr int64_t kLogitValues = int64_t{1} << 22;  // that evaluation holds at a time
constexpr int64_t kLayerTokens = 512;               // that layers are measured on
constexpr double kHeap =
    1.3;  // pages that the heap holds between what is in use; measured on models of 1 to 90 MB
constexpr int64_t kLogitForms = 7;  // of both models: logits, their softmax, and what KL is made of

int64_t values_of(const std::vector<Weight*>& weights) {
  int64_t values = 0;
  for (const Weight* weight : weights) values += weight->value.numel();
  return values;
}

// Values of sites and of outputs of linears that a token has while it is in a block.
int64_t values_per_token(Block& block) {
  std::map<std::string, int64_t> inputs;
  int64_t values = 0;
  for (const Linear* linear : block.linears()) {
    inputs[linear->site] = linear->weight.value.size(1);
    values += linear->weight.value.size(0);
  }
  for (const auto& [site, channels] : inputs) values += channels;
  return values;
}

int64_t batch_tokens(int64_t rows, int64_t length) {
  if (rows == 0) return 0;
  return std::min(rows, std::max<int64_t>(1, kTokensPerBatch / length)) * length;
}

}  // namespace

RunCost::RunCost(Model& model, const RunRows& rows) : model_(model), rows_(rows) {
  outer_values_ = values_of(model.outer_weights());
  const double head = 2.0 * static_cast<double>(model.vocab_size() * model.hidden_size());
  const int64_t predicted =
      rows.eval_windows > 0 ? rows.eval_windows * rows.eval_length : rows.kept * rows.length;
  text_operations_ = 2 * head * static_cast<double>(predicted);
  if (rows.self_written) text_operations_ += head * static_cast<double>(rows.rows * rows.length);
}

double RunCost::forward_operations(Block& block, int64_t rows, int64_t length) const {
  double weights = 0;
  for (const Linear* linear : block.linears()) weights += static_cast<double>(linear->weight.value.numel());
  const auto n = static_cast<double>(rows);
  return n * (2 * weights * static_cast<double>(length) + block.mixing_cost(length).operations);
}

void RunCost::add(Block& block, const BlockPlan& plan) {
  const int64_t calibrated = rows_calibrated_on(rows_.rows, rows_.kept);
  const auto forward = [&](int64_t rows) { return forward_operations(block, rows, rows_.length); };
  operations_ += static_cast<double>(plan.passes) * forward(calibrated) + forward(rows_.rows - calibrated);
  operations_ += forward(rows_.kept);  // the block's error
  if (rows_.eval_windows > 0) {
    operations_ += 2 * forward_operations(block, rows_.eval_windows, rows_.eval_length);
  } else {
    operations_ += forward(rows_.kept);
  }
  if (rows_.self_written) text_operations_ += forward(rows_.rows);

  int64_t statistics = 0, step_bytes = 0;
  std::set<std::string> counted;  // linears share the statistics of a site
  for (const Linear* linear : block.linears()) {
    const auto needs = plan.needs.find(linear->site);
    if (needs == plan.needs.end() || !counted.insert(linear->site).second) continue;
    const int64_t in = linear->weight.value.size(1);
    statistics += std::min(needs->second.samples, calibrated * rows_.length) * in * kFloat;
    if (!needs->second.second_moment) continue;
    statistics += in * in * 8;
    operations_ += 2 * static_cast<double>(calibrated * rows_.length) * static_cast<double>(in * in);
  }
  for (const StepCost& cost : plan.costs) {
    operations_ += cost.operations + cost.forwards * forward(std::min(cost.forward_rows, rows_.kept));
    step_bytes = std::max(step_bytes, cost.bytes);
  }

  const int64_t values = values_of(block.weights());
  const int64_t activations = values_per_token(block) * batch_tokens(rows_.rows, rows_.length) * kFloat;
  const int64_t layers = std::min(kLayerTokens, rows_.kept * rows_.length) * values_per_token(block) * kFloat;
  // Before rounding the block is there once, after it also as codes and their values.
  const int64_t one = values * kFloat, both = 2 * one + values;
  const int64_t calibrating = one + activations + statistics;
  const int64_t rounding = both + statistics + step_bytes;
  const int64_t measuring = both + statistics + layers + activations;
  block_bytes_ = std::max({block_bytes_, calibrating, rounding, measuring});
  forward_bytes_ = std::max(forward_bytes_, one + values + activations);
  all_values_ += values;
  state_values_ += block.mixing_cost(rows_.length).state_values;
}

int64_t RunCost::peak_bytes() const {
  const int64_t d = model_.hidden_size(), V = model_.vocab_size();
  const int64_t outer = outer_values_ * kFloat;
  const int64_t stream = rows_.rows * rows_.length * d * kFloat;
  const int64_t kept = rows_.kept * rows_.length * d * kFloat;
  const int64_t predicted =
      rows_.eval_windows > 0 ? rows_.eval_windows * rows_.eval_length : rows_.kept * rows_.length;
  const int64_t logits = kLogitForms * std::min(predicted * V, std::max(kLogitValues, V)) * kFloat;
  const int64_t texts =
      2 * std::min<int64_t>(int64_t{128} << 20, rows_.eval_windows * rows_.eval_length * d * kFloat);
  int64_t peak = stream + 2 * kept + block_bytes_;
  peak = std::max(peak, stream + kept + texts + outer + std::max(logits, forward_bytes_));
  if (rows_.self_written) {
    const bool resident = all_values_ * kFloat <= Decoder::kResidentBytes;
    const int64_t blocks = resident ? all_values_ * kFloat : forward_bytes_;
    peak = std::max(peak, blocks + rows_.rows * (state_values_ * kFloat + V * (kFloat + 3 * 8)));
  }
  return kProgramBytes + static_cast<int64_t>(kHeap * static_cast<double>(outer + peak));
}

}  // namespace ptq
