// One query reads every key and value once, so the kernels widen them from what is held; several queries that
// share a head are rows of one product.
#include "ptq/ops/cached_rows.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "ops/half_bytes.h"
#include "ptq/kernels/kernels.h"

namespace ptq {
namespace {

using kernels::Stored;

constexpr int64_t kLeastRoom = 64;  // tokens that there is room for beyond those held
constexpr int64_t kWork = 1 << 17;  // multiplications that are worth a thread
constexpr int kMiddle = 128;        // of unsigned codes of 8 bits, which are held less that

// The values of the codes of half a byte are the codes themselves.
constexpr std::array<float, 16> kCodesOfFourBits = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<float, 16> kSignedOfFourBits = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};

bool in_half_bytes(const ActivationScheme& scheme) {
  return scheme.bits <= 4;
}

int64_t row_bytes_of(const ActivationScheme& scheme, int64_t head_dim) {
  return in_half_bytes(scheme) ? half_byte_row(head_dim) : head_dim;
}

void place_row(const uint8_t* codes, int64_t count, const ActivationScheme& scheme, uint8_t* to) {
  if (in_half_bytes(scheme)) return place_half_bytes(codes, count, /*offset=*/0, to);
  const int flip = scheme.symmetric ? 0 : kMiddle;
  for (int64_t k = 0; k < count; ++k) to[k] = static_cast<uint8_t>(codes[k] ^ flip);
}

}  // namespace

CachedRows::CachedRows(int64_t batch, int64_t heads, int64_t head_dim,
                       const std::optional<ActivationScheme>& scheme, at::Device device, CacheFloats floats)
    : batch_(batch), heads_(heads), head_dim_(head_dim), scheme_(scheme) {
  as_codes_ = scheme.has_value() && device.is_cpu();
  const bool half = floats == CacheFloats::kFloat16 && device.is_cpu();
  const at::ScalarType type = as_codes_ ? at::kByte : half ? at::kHalf : at::kFloat;
  const int64_t row = as_codes_ ? row_bytes_of(*scheme, head_dim) : head_dim;
  data_ = at::empty({batch, heads, 0, row}, at::TensorOptions().dtype(type).device(device));
  if (!as_codes_) return;
  scale_ = at::empty({batch, heads, 0}, at::kFloat);
  if (!scheme->symmetric) zero_ = at::empty({batch, heads, 0}, at::kChar);
}

// Behind what is held; a larger buffer takes its place if it is full, so that few tokens are ever copied
// again.
void CachedRows::make_room(int64_t more) {
  if (begin_ + kept_ + more <= data_.size(2)) return;
  const int64_t room = kept_ + more + std::max((kept_ + more) / 2, kLeastRoom);
  for (Tensor* held : {&data_, &scale_, &zero_}) {
    if (!held->defined()) continue;
    std::vector<int64_t> sizes = held->sizes().vec();
    sizes[2] = room;
    const Tensor larger = at::empty(sizes, held->options());
    larger.narrow(2, 0, kept_).copy_(held->narrow(2, begin_, kept_));
    *held = larger;
  }
  begin_ = 0;
}

void CachedRows::place_codes(const Activation& x, int64_t length) {
  const Tensor codes = x.codes.contiguous(), scale = x.scale.contiguous();
  const Tensor zero = x.zero.defined() ? x.zero.contiguous() : Tensor();
  // Of a scale for all, for each token, or for each token and head.
  const int64_t scales = scale.numel(), tokens = batch_ * length;
  const int64_t heads_of_one = scales == 1 ? tokens * heads_ : scales == tokens ? heads_ : 1;
  const int offset = in_half_bytes(*scheme_) ? 0 : kMiddle;
  const int64_t room = data_.size(2), row = data_.size(3);
  const auto* from = static_cast<const uint8_t*>(codes.const_data_ptr());
  for (int64_t i = 0; i < tokens * heads_; ++i) {
    const int64_t head = i % heads_, token = i / heads_ % length, sequence = i / heads_ / length;
    const int64_t at = (sequence * heads_ + head) * room + begin_ + kept_ + token, own = i / heads_of_one;
    place_row(from + i * head_dim_, head_dim_, *scheme_, data_.data_ptr<uint8_t>() + at * row);
    scale_.data_ptr<float>()[at] = scale.const_data_ptr<float>()[own];
    if (zero.defined())
      zero_.data_ptr<int8_t>()[at] = static_cast<int8_t>(zero.const_data_ptr<uint8_t>()[own] - offset);
  }
}

// x [batch, 1, heads * head_dim]; libtorch's views and copies take longer.
void CachedRows::place_halves_of_one(const Tensor& x) {
  const Tensor held = x.contiguous();
  for (int64_t i = 0; i < batch_ * heads_; ++i) {
    const float* from = held.const_data_ptr<float>() + i * head_dim_;
    at::Half* to = data_.data_ptr<at::Half>() + (i * data_.size(2) + begin_ + kept_) * head_dim_;
    std::copy(from, from + head_dim_, to);
  }
}

void CachedRows::append(const Activation& x) {
  const int64_t length = x.sizes()[1];
  make_room(length);
  if (as_codes_) {
    TORCH_CHECK(x.in_codes() && x.scheme == *scheme_, "a cache of codes was given others");
    place_codes(x, length);
  } else if (length == 1 && !in_float32()) {
    place_halves_of_one(x.dequantize());
  } else {
    const Tensor rows = x.dequantize().unflatten(-1, {heads_, head_dim_}).transpose(1, 2);
    data_.narrow(2, begin_ + kept_, length).copy_(rows);
  }
  kept_ += length;
}

void CachedRows::keep_last(int64_t count) {
  if (kept_ <= count) return;
  begin_ += kept_ - count;
  kept_ = count;
}

int64_t CachedRows::bytes() const {
  int64_t sum = 0;
  for (const Tensor* held : {&data_, &scale_, &zero_}) {
    if (held->defined()) sum += static_cast<int64_t>(held->nbytes());
  }
  return sum;
}

kernels::StoredRows CachedRows::rows(int64_t sequence, int64_t head) const {
  const int64_t first = (sequence * heads_ + head) * data_.size(2) + begin_;
  const int64_t row_bytes = data_.size(3) * static_cast<int64_t>(data_.element_size());
  kernels::StoredRows rows{.stored = Stored::kF16,
                           .data = static_cast<const std::byte*>(data_.const_data_ptr()) + first * row_bytes,
                           .row_bytes = row_bytes,
                           .columns = head_dim_,
                           .group = head_dim_};
  if (!as_codes_) return rows;
  rows.stored = in_half_bytes(*scheme_) ? Stored::kU4 : Stored::kI8;
  rows.table = (scheme_->symmetric ? kSignedOfFourBits : kCodesOfFourBits).data();
  rows.scale = scale_.const_data_ptr<float>() + first;
  if (zero_.defined()) rows.zero = zero_.const_data_ptr<int8_t>() + first;
  return rows;
}

Tensor CachedRows::values() const {
  if (!as_codes_) return data_.narrow(2, begin_, kept_).to(at::kFloat);
  const Tensor all = at::empty({batch_, heads_, kept_, head_dim_}, at::kFloat);
  for (int64_t i = 0; i < batch_ * heads_; ++i) {
    kernels::run(kernels::WidenRows{.w = rows(i / heads_, i % heads_),
                                    .y = all.data_ptr<float>() + i * kept_ * head_dim_,
                                    .y_stride = head_dim_,
                                    .first = 0,
                                    .rows = kept_});
  }
  return all;
}

Tensor attend_to_cached(const Tensor& q, const CachedRows& keys, const CachedRows& values) {
  const int64_t batch = q.size(0), width = keys.head_dim(), tokens = keys.size();
  const int64_t kv_heads = keys.heads(), together = q.size(2) / width / kv_heads;
  const Tensor queries = q.contiguous(), y = at::empty(q.sizes(), at::kFloat);
  const int64_t grain = std::max<int64_t>(1, kWork / std::max<int64_t>(1, together * width * tokens));
  at::parallel_for(0, batch * kv_heads, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(static_cast<size_t>(together * tokens));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * together * width;  // of the query heads that share this one
      kernels::run(kernels::StoredProduct{.x = queries.const_data_ptr<float>() + first,
                                          .w = keys.rows(i / kv_heads, i % kv_heads),
                                          .y = scores.data(),
                                          .x_stride = width,
                                          .y_stride = tokens,
                                          .rows = together,
                                          .first = 0,
                                          .columns = tokens});
      kernels::run(kernels::Softmax{.x = scores.data(),
                                    .x_stride = tokens,
                                    .rows = together,
                                    .columns = tokens,
                                    .scale = 1 / std::sqrt(static_cast<float>(width))});
      kernels::run(kernels::WeightedRows{.x = scores.data(),
                                         .w = values.rows(i / kv_heads, i % kv_heads),
                                         .y = y.data_ptr<float>() + first,
                                         .x_stride = tokens,
                                         .y_stride = width,
                                         .rows = together,
                                         .first = 0,
                                         .count = tokens});
    }
  });
  return y;
}

}  // namespace ptq
