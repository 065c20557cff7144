#include "ptq/calibration/stream.h"

#include <algorithm>

#include "ptq/base/interrupt.h"

namespace ptq {

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
    hidden.slice(0, begin, end).copy_(block.forward(hidden.slice(0, begin, end)));
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
