#include "ptq/calibration/stream.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// Remembers whether anything that is not finite has come by.
class FiniteObserver : public Observer {
 public:
  void observe(const Tensor& x) override { finite = finite && at::isfinite(x).all().item<bool>(); }
  bool finite = true;
};

// Says where the block's activations leave what float32 can hold.
[[noreturn]] void throw_not_finite(const Block& block, const Tensor& hidden) {
  const std::unique_ptr<Block> copy = block.clone();
  std::map<std::string, FiniteObserver> observers;
  for (Site* site : copy->sites()) site->observer = &observers[site->name];
  copy->forward(hidden);
  std::string where = "in its output";
  for (const Site* site : copy->sites()) {
    if (observers[site->name].finite) continue;
    where = "first at the site " + site->name;
    break;
  }
  throw Error(block.prefix(), "activations are NaN or infinite, " + where,
              "check the checkpoint and the calibration text; a model whose weights or activations passed "
              "65504 in FP16 is damaged");
}

Tensor forward_finite(const Block& block, const Tensor& hidden) {
  Tensor output = block.forward(hidden);
  // The largest magnitude shows NaN as well as infinity.
  if (!std::isfinite(ops::abs_max_rows(output).max().item<float>())) throw_not_finite(block, hidden);
  return output;
}

}  // namespace

void for_each_batch(int64_t rows, int64_t length, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t step = std::max<int64_t>(1, kTokensPerBatch / std::max<int64_t>(1, length));
  for (int64_t begin = 0; begin < rows; begin += step) {
    throw_if_interrupted();
    body(begin, std::min(rows, begin + step));
  }
}

Tensor run_block(const Block& block, const Tensor& hidden) {
  Tensor output = at::empty_like(hidden);
  for_each_batch(hidden.size(0), hidden.size(1), [&](int64_t begin, int64_t end) {
    output.slice(0, begin, end).copy_(block.forward(hidden.slice(0, begin, end)));
  });
  return output;
}

void advance(const Block& block, Tensor& hidden) {
  for_each_batch(hidden.size(0), hidden.size(1), [&](int64_t begin, int64_t end) {
    hidden.slice(0, begin, end).copy_(forward_finite(block, hidden.slice(0, begin, end)));
  });
}

Tensor embed_rows(const Model& model, const Tensor& ids) {
  Tensor hidden =
      at::empty({ids.size(0), ids.size(1), model.hidden_size()}, at::TensorOptions().device(model.device()));
  for_each_batch(ids.size(0), ids.size(1), [&](int64_t begin, int64_t end) {
    hidden.slice(0, begin, end).copy_(model.embed(ids.slice(0, begin, end)));
  });
  return hidden;
}

}  // namespace ptq
