#include "ptq/codec/packing.h"

#include <algorithm>

namespace ptq {
namespace {

// Eight fields fill as many bytes as a field has bits; both are held in one int64 on the way, sixteen times
// the memory of the codes, so a few rows are packed at a time.
constexpr int64_t kFields = 8;
constexpr int64_t kCodesAtATime = 1 << 15;

Tensor fields_of(const Tensor& codes, const WeightScheme& scheme) {
  switch (scheme.format) {
    case NumberFormat::kInteger:
      return codes.to(at::kLong) + (int64_t{1} << (scheme.bits - 1));
    case NumberFormat::kMxint:
      return codes.to(at::kLong).abs() + (codes < 0).to(at::kLong) * (int64_t{1} << (scheme.bits - 1));
    case NumberFormat::kNf4:
      return codes.to(at::kLong);
  }
  return {};
}

Tensor codes_of(const Tensor& fields, const WeightScheme& scheme) {
  const int64_t top = int64_t{1} << (scheme.bits - 1);
  switch (scheme.format) {
    case NumberFormat::kInteger:
      return (fields - top).to(at::kChar);
    case NumberFormat::kMxint: {
      const Tensor magnitude = fields.bitwise_and(top - 1);
      return at::where(fields >= top, -magnitude, magnitude).to(at::kChar);
    }
    case NumberFormat::kNf4:
      return fields.to(at::kChar);
  }
  return {};
}

// Where the n-th of `count` fields of `bits` bits begins. [count] int64
Tensor shifts(int64_t count, int64_t bits, at::Device device) {
  return at::arange(count, at::TensorOptions().dtype(at::kLong).device(device)) * bits;
}

// [rows, n] with zeros behind, so that n is a multiple.
Tensor padded(const Tensor& t, int64_t multiple) {
  const int64_t rest = t.size(1) % multiple;
  return rest == 0 ? t : at::constant_pad_nd(t, {0, multiple - rest});
}

// Fields of `from` bits [rows, n] as fields of `to` bits, of the same stream: `count` of them make a word of
// 64 bits or less.
Tensor regroup(const Tensor& fields, int64_t from, int64_t to, int64_t count) {
  const int64_t others = count * from / to;
  const Tensor words = padded(fields, count)
                           .unflatten(1, {-1, count})
                           .bitwise_left_shift(shifts(count, from, fields.device()));
  const Tensor parts =
      words.sum(2, /*keepdim=*/true).bitwise_right_shift(shifts(others, to, fields.device()));
  return parts.bitwise_and((int64_t{1} << to) - 1).flatten(1);
}

// The result of `convert` on a few rows at a time.
template <typename Convert>
Tensor by_rows(const Tensor& matrix, Tensor result, const Convert& convert) {
  const int64_t rows = std::max<int64_t>(1, kCodesAtATime / std::max<int64_t>(1, matrix.size(1)));
  for (int64_t first = 0; first < matrix.size(0); first += rows) {
    const int64_t count = std::min(rows, matrix.size(0) - first);
    result.narrow(0, first, count).copy_(convert(matrix.narrow(0, first, count)));
  }
  return result;
}

}  // namespace

int64_t packed_row_bytes(int64_t in, int bits) {
  return (in * bits + 7) / 8;
}

Tensor pack_codes(const Tensor& codes, const WeightScheme& scheme) {
  const int64_t bytes = packed_row_bytes(codes.size(1), scheme.bits);
  const Tensor result = at::empty({codes.size(0), bytes}, codes.options().dtype(at::kByte));
  if (codes.is_meta()) return result;
  return by_rows(codes, result, [&](const Tensor& rows) {
    return regroup(fields_of(rows, scheme), scheme.bits, 8, kFields).slice(1, 0, bytes);
  });
}

Tensor unpack_codes(const Tensor& packed, int64_t in, const WeightScheme& scheme) {
  const Tensor result = at::empty({packed.size(0), in}, packed.options().dtype(at::kChar));
  return by_rows(packed, result, [&](const Tensor& rows) {
    const Tensor fields = regroup(rows.to(at::kLong), 8, scheme.bits, scheme.bits);
    return codes_of(fields.slice(1, 0, in), scheme);
  });
}

Tensor pack_exponents(const Tensor& scale, int bits) {
  const Tensor bytes = at::log2(scale.to(at::kDouble)).round() + (bits - 2) + 127;
  TORCH_CHECK(scale.is_meta() || ((bytes >= 1) & (bytes <= 254)).all().item<bool>(),
              "a scale of MXINT has no exponent of a float32 number");
  return bytes.to(at::kByte);
}

Tensor unpack_exponents(const Tensor& bytes, int bits) {
  return at::exp2(bytes.to(at::kDouble) - 127 - (bits - 2)).to(at::kFloat);
}

}  // namespace ptq
