// Few rows: a kernel reads the weight once and widens it in registers. Many rows: a panel of the weight is
// widened into a buffer that a cache holds, and multiplied as float32; the bits of such a product do not
// depend on how the rows of the weight are cut into panels.
#include "ptq/ops/stored_weight.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "ops/half_bytes.h"
#include "ptq/kernels/kernels.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

using kernels::kU4Columns;
using kernels::Stored;

constexpr int64_t kPanelValues = int64_t{1} << 19;
constexpr int64_t kLeastPanel = 256;     // rows: of fewer, float products are slower
constexpr int64_t kColumnsTogether = 8;  // that a kernel reads at once
constexpr int64_t kWork = 1 << 18;       // multiplications that are worth a thread
constexpr int64_t kHalfByteCodes = 16;

Stored stored_as(const Tensor& data) {
  switch (data.scalar_type()) {
    case at::kHalf:
      return Stored::kF16;
    case at::kBFloat16:
      return Stored::kBf16;
    case at::kChar:
      return Stored::kI8;
    default:
      return Stored::kU4;
  }
}

// Codes [out, in] plus `offset`, two in a byte, as Stored::kU4 says.
Tensor in_half_bytes(const Tensor& codes, int offset) {
  const int64_t out = codes.size(0), in = codes.size(1), row_bytes = half_byte_row(in);
  const Tensor bytes = at::empty({out, row_bytes}, at::kByte);
  const auto* from = static_cast<const uint8_t*>(codes.const_data_ptr());
  auto* to = bytes.data_ptr<uint8_t>();
  at::parallel_for(0, out, std::max<int64_t>(1, kWork / in), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) place_half_bytes(from + r * in, in, offset, to + r * row_bytes);
  });
  return bytes;
}

// What the codes -offset, 1 - offset, ... stand for, without scale and zero point. [16]
Tensor table_of(WeightScheme scheme, int offset) {
  scheme.granularity = Granularity::kTensor;
  scheme.symmetric = true;
  const Tensor codes = at::arange(kHalfByteCodes, at::kChar) - offset;
  return dequantize({codes.unsqueeze(0), at::ones({1}), {}, scheme}).flatten();
}

}  // namespace

StoredWeight::StoredWeight(const Tensor& numbers)
    : out_(numbers.size(0)), in_(numbers.size(1)), data_(numbers), group_(std::max<int64_t>(1, in_)) {
  in_floats_ = !numbers.is_cpu() || numbers.scalar_type() == at::kFloat;
  data_ = in_floats_ ? numbers.to(at::kFloat) : numbers.contiguous();
}

StoredWeight::StoredWeight(const QuantizedTensor& q) : out_(q.codes.size(0)), in_(q.codes.size(1)) {
  const bool grouped = q.scheme.granularity == Granularity::kGroup;
  group_ = grouped ? q.scheme.group : std::max<int64_t>(1, in_);
  const bool by_halves = q.scheme.bits <= 4 && (!grouped || group_ % kU4Columns == 0);
  in_floats_ = !q.codes.is_cpu() || in_ == 0 || (!by_halves && !q.scheme.is_linear());
  if (in_floats_) {
    data_ = dequantize(q);
    return;
  }
  if (by_halves) {
    const int offset = q.scheme.is_linear() ? kHalfByteCodes / 2 : 0;
    table_ = table_of(q.scheme, offset);
    data_ = in_half_bytes(q.codes.contiguous(), offset);
  } else {
    data_ = q.codes.contiguous();
  }
  scale_ = q.scale.contiguous();
  if (q.zero.defined()) zero_ = q.zero.contiguous();
}

kernels::StoredRows StoredWeight::operand() const {
  return {.stored = stored_as(data_),
          .data = data_.const_data_ptr(),
          .table = table_.defined() ? table_.const_data_ptr<float>() : nullptr,
          .scale = scale_.defined() ? scale_.const_data_ptr<float>() : nullptr,
          .zero = zero_.defined() ? zero_.const_data_ptr<int8_t>() : nullptr,
          .row_bytes = data_.size(1) * static_cast<int64_t>(data_.element_size()),
          .columns = in_,
          .group = group_,
          .one_scale = !scale_.defined() || scale_.dim() == 1};
}

// Rows [first, first + count) in float32.
Tensor StoredWeight::widened(int64_t first, int64_t count) const {
  if (in_floats_) return data_.narrow(0, first, count);
  const kernels::StoredRows w = operand();
  const Tensor y = at::empty({count, in_}, at::kFloat);
  auto* to = y.data_ptr<float>();
  at::parallel_for(
      0, count, std::max<int64_t>(1, kWork / std::max<int64_t>(1, in_)), [&](int64_t begin, int64_t end) {
        kernels::run(kernels::WidenRows{
            .w = w, .y = to + begin * in_, .y_stride = in_, .first = first + begin, .rows = end - begin});
      });
  return y;
}

// `y` [rows, out], in the shape that the product has.
void StoredWeight::multiply_few(const Tensor& x, const Tensor& y) const {
  const kernels::StoredRows w = operand();
  const int64_t rows = y.numel() / std::max<int64_t>(1, out_);
  const auto* from = x.const_data_ptr<float>();
  auto* to = y.data_ptr<float>();
  const int64_t blocks = (out_ + kColumnsTogether - 1) / kColumnsTogether;
  const int64_t work = std::max<int64_t>(1, rows * in_ * kColumnsTogether);
  at::parallel_for(0, blocks, (kWork + work - 1) / work, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kColumnsTogether;
    kernels::run(kernels::StoredProduct{.x = from,
                                        .w = w,
                                        .y = to + first,
                                        .x_stride = in_,
                                        .y_stride = out_,
                                        .rows = rows,
                                        .first = first,
                                        .columns = std::min(out_, end * kColumnsTogether) - first});
  });
}

Tensor StoredWeight::product(const Tensor& x, const Tensor& bias) const {
  if (in_floats_) return ops::linear(x, data_, bias);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = out_;
  if (x.numel() < kFewRows * in_) {
    const Tensor y = at::empty(shape, at::kFloat);
    multiply_few(x.contiguous(), y);
    return bias.defined() ? y.add_(bias) : y;
  }
  const Tensor rows = x.reshape({-1, in_}).contiguous();
  const int64_t panel = std::max(kLeastPanel, kPanelValues / in_);
  if (out_ <= panel) return ops::linear(x, widened(0, out_), bias);
  const Tensor y = at::empty({rows.size(0), out_}, at::kFloat);
  for (int64_t first = 0; first < out_; first += panel) {
    const int64_t count = std::min(panel, out_ - first);
    const Tensor part = bias.defined() ? bias.narrow(0, first, count) : Tensor();
    y.narrow(1, first, count).copy_(ops::linear(rows, widened(first, count), part));
  }
  return y.view(shape);
}

Tensor StoredWeight::rows(const Tensor& ids) const {
  if (in_floats_) return at::embedding(data_, ids.to(data_.device()));
  const Tensor flat = ids.to(at::kLong).contiguous();
  std::vector<int64_t> shape = ids.sizes().vec();
  shape.push_back(in_);
  const Tensor y = at::empty(shape, at::kFloat);
  const kernels::StoredRows w = operand();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const int64_t id = flat.const_data_ptr<int64_t>()[i];
    TORCH_CHECK(id >= 0 && id < out_, "row ", id, " of a weight with ", out_, " rows");
    kernels::run(kernels::WidenRows{
        .w = w, .y = y.data_ptr<float>() + i * in_, .y_stride = in_, .first = id, .rows = 1});
  }
  return y;
}

}  // namespace ptq
