// Weights are packed once, in the tiles that the kernel reads: with 4 bits a code if that holds them, else 8.
// Activations are passed as they are if they are signed; unsigned ones are moved by 128 with their zero
// points, which changes no difference. Columns are shared among threads, and each computes all rows of its
// own: a weight is read by one thread, and an output does not depend on which.
#include "ops/code_product.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "ops/exact_product.h"
#include "ptq/kernels/kernels.h"

namespace ptq {
namespace {

using kernels::kCodeColumns;

constexpr int64_t kLargestRowCode = 255;  // |code - zero point|
constexpr int64_t kWork = 1 << 18;        // multiplications that are worth a thread

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Codes of activations as the kernel wants them. The rows' sums are of what it multiplies.
struct Rows {
  int64_t count = 0;
  Tensor held;                      // what `codes` points into
  const int8_t* codes = nullptr;    // [rows, quads * 4]
  std::unique_ptr<int32_t[]> sums;  // [rows, groups]
  std::unique_ptr<int32_t[]> zero;  // [rows]; null: all 0
  Tensor scale;                     // float32: one a row, or one
  float one_scale = 1;              // if there is one
};

// How the inputs of a row are cut into quads and groups, and the bits that a code of the weight takes.
struct Cut {
  int64_t in, quads, group_quads, groups;
  int bits;
};

// Half a byte a weight wants whole bytes in a group.
bool packs_nibbles(const WeightScheme& scheme) {
  return scheme.bits <= 4 && (scheme.granularity != Granularity::kGroup || scheme.group % 8 == 0);
}

Cut cut_of(int64_t in, const WeightScheme& scheme) {
  const int bits = packs_nibbles(scheme) ? 4 : 8;
  const int64_t quads = bits == 4 ? ceil_div(in, 8) * 2 : ceil_div(in, 4);
  const int64_t group_quads =
      scheme.granularity == Granularity::kGroup ? scheme.group / 4 : std::max<int64_t>(1, quads);
  return {in, quads, group_quads, ceil_div(quads, group_quads), bits};
}

int32_t sum_of(const int8_t* codes, int64_t count) {
  int32_t sum = 0;
#pragma omp simd reduction(+ : sum)  // -O2 of gcc 12 leaves it scalar otherwise
  for (int64_t i = 0; i < count; ++i) sum += codes[i];
  return sum;
}

// One row: its codes, moved by `flip` = 0x80 if they are unsigned, and the sums of its groups.
void place_row(const uint8_t* from, int flip, const Cut& cut, int8_t* to, int32_t* sums) {
  if (reinterpret_cast<uint8_t*>(to) != from) {
    for (int64_t k = 0; k < cut.in; ++k) to[k] = static_cast<int8_t>(from[k] ^ flip);
    std::fill(to + cut.in, to + cut.quads * 4, int8_t{0});
  }
  const int64_t group = cut.group_quads * 4;
  for (int64_t g = 0; g < cut.groups; ++g)
    sums[g] = sum_of(to + g * group, std::min(group, cut.in - g * group));
}

// A zero point a row, from as many or from one.
std::unique_ptr<int32_t[]> moved_zeros(const Tensor& zero, int64_t count) {
  auto moved = std::make_unique_for_overwrite<int32_t[]>(static_cast<size_t>(count));
  const Tensor held = zero.contiguous();
  const auto* from = held.const_data_ptr<uint8_t>();
  const int64_t step = zero.numel() == 1 ? 0 : 1;
  for (int64_t r = 0; r < count; ++r) moved[static_cast<size_t>(r)] = from[r * step] - 128;
  return moved;
}

// With one token every call of libtorch shows: there are none where the codes can be used as they are.
Rows rows_of(const Activation& x, const Cut& cut) {
  const Tensor codes = x.codes.contiguous();
  const bool is_signed = codes.scalar_type() == at::kChar;
  const bool in_place = is_signed && cut.in == cut.quads * 4;
  Rows rows;
  rows.count = codes.numel() / cut.in;
  rows.held = in_place ? codes : at::empty({rows.count, cut.quads * 4}, at::kChar);
  auto* to = static_cast<int8_t*>(rows.held.data_ptr());
  rows.codes = to;
  rows.sums = std::make_unique_for_overwrite<int32_t[]>(static_cast<size_t>(rows.count * cut.groups));
  const auto* from = static_cast<const uint8_t*>(codes.const_data_ptr());
  const int64_t grain = std::max<int64_t>(1, kWork / cut.in);
  at::parallel_for(0, rows.count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      place_row(from + r * cut.in, is_signed ? 0 : 0x80, cut, to + r * cut.quads * 4,
                rows.sums.get() + r * cut.groups);
    }
  });
  if (x.zero.defined()) rows.zero = moved_zeros(x.zero, rows.count);
  rows.scale = x.scale.contiguous();
  return rows;
}

// A weight in the kernel's form.
class PackedWeight : public PreparedWeight {
 public:
  explicit PackedWeight(const QuantizedTensor& q);
  Tensor product(const Activation& x) const override;

 private:
  Tensor tiled(const Tensor& grid) const;
  void pack_tile(const int8_t* from, int64_t tile);
  void sum_groups(const int8_t* from, int64_t tile);
  void multiply(const Rows& rows, bool one_scale, float* y) const;

  int zero_code() const { return 1 << (cut_.bits - 1); }  // of a signed code 0
  int64_t tile_bytes() const { return cut_.quads * kCodeColumns * 4 * cut_.bits / 8; }

  int64_t out_;
  int64_t tiles_;
  Cut cut_;
  WeightScheme scheme_;
  Tensor codes_;         // [tiles, quads or half as many, kCodeColumns, 4] uint8
  Tensor sums_;          // [tiles, groups, kCodeColumns] int32: of code - zero point
  Tensor scale_;         // [tiles, groups, kCodeColumns] float32
  Tensor zero_;          // the same, uint8; undefined: all zero_code()
  float one_scale_ = 1;  // of a weight with one; and ones in the shape of scale_
  Tensor ones_;
};

// An entry for each scale, [1], [out, 1] or [out, groups], in the order of the tiles.
Tensor PackedWeight::tiled(const Tensor& grid) const {
  const Tensor all = grid.expand({out_, cut_.groups});
  const Tensor padded = at::constant_pad_nd(all, {0, 0, 0, tiles_ * kCodeColumns - out_});
  return padded.view({tiles_, kCodeColumns, cut_.groups}).transpose(1, 2).contiguous();
}

uint32_t quad_at(const int8_t* codes) {
  uint32_t four = 0;
  std::memcpy(&four, codes, 4);
  return four;
}

// Four bytes of a column: codes plus half their range, which is to flip the highest bit. At 4 bits those of
// two quads.
template <int bits>
uint32_t packed_at(const int8_t* codes) {
  constexpr uint32_t kLow = 0x0f0f0f0fU;
  if constexpr (bits == 8) return quad_at(codes) ^ 0x80808080U;
  return ((quad_at(codes) & kLow) | (quad_at(codes + 4) & kLow) << 4) ^ 0x88888888U;
}

// The columns of a tile, rows of `in` codes. Some bytes of a column at a time, and the same of the others, so
// that reads and writes stay in the nearest cache.
template <int bits>
void pack_columns(const int8_t* from, int64_t in, int64_t columns, uint8_t* to) {
  constexpr int64_t kCodes = 32 / bits, kBlock = 16;  // codes of four bytes; so many times
  const int64_t whole = in / kCodes;
  for (int64_t begin = 0; begin < whole; begin += kBlock) {
    const int64_t end = std::min(whole, begin + kBlock);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t i = begin; i < end; ++i) {
        const uint32_t four = packed_at<bits>(from + c * in + i * kCodes);
        std::memcpy(to + (i * kCodeColumns + c) * 4, &four, 4);
      }
    }
  }
  if (whole * kCodes == in) return;
  for (int64_t c = 0; c < columns; ++c) {
    int8_t rest[kCodes] = {};
    std::copy(from + c * in + whole * kCodes, from + (c + 1) * in, rest);
    const uint32_t four = packed_at<bits>(rest);
    std::memcpy(to + (whole * kCodeColumns + c) * 4, &four, 4);
  }
}

void PackedWeight::pack_tile(const int8_t* from, int64_t tile) {
  uint8_t* to = codes_.data_ptr<uint8_t>() + tile * tile_bytes();
  const int64_t columns = std::min(kCodeColumns, out_ - tile * kCodeColumns);
  if (columns < kCodeColumns) std::memset(to, 0, static_cast<size_t>(tile_bytes()));
  const auto pack = cut_.bits == 4 ? pack_columns<4> : pack_columns<8>;
  pack(from + tile * kCodeColumns * cut_.in, cut_.in, columns, to);
}

void PackedWeight::sum_groups(const int8_t* from, int64_t tile) {
  int32_t* sums = sums_.data_ptr<int32_t>() + tile * cut_.groups * kCodeColumns;
  const uint8_t* zero =
      zero_.defined() ? zero_.const_data_ptr<uint8_t>() + tile * cut_.groups * kCodeColumns : nullptr;
  const int64_t columns = std::min(kCodeColumns, out_ - tile * kCodeColumns), group = cut_.group_quads * 4;
  for (int64_t c = 0; c < columns; ++c) {
    const int8_t* row = from + (tile * kCodeColumns + c) * cut_.in;
    for (int64_t g = 0; g < cut_.groups; ++g) {
      const int64_t at = g * kCodeColumns + c, size = std::min(group, cut_.in - g * group);
      const int32_t zero_point = zero == nullptr ? 0 : zero[at] - zero_code();
      sums[at] = sum_of(row + g * group, size) - zero_point * static_cast<int32_t>(size);
    }
  }
}

PackedWeight::PackedWeight(const QuantizedTensor& q)
    : out_(q.codes.size(0)),
      tiles_(ceil_div(out_, kCodeColumns)),
      cut_(cut_of(q.codes.size(1), q.scheme)),
      scheme_(q.scheme),
      codes_(at::empty({tiles_, cut_.quads * cut_.bits / 8, kCodeColumns, 4}, at::kByte)),
      sums_(at::zeros({tiles_, cut_.groups, kCodeColumns}, at::kInt)),
      scale_(tiled(q.scale)) {
  if (q.zero.defined()) zero_ = (tiled(q.zero).to(at::kInt) + zero_code()).to(at::kByte);
  if (scheme_.granularity == Granularity::kTensor) {
    one_scale_ = q.scale.item<float>();
    ones_ = at::ones_like(scale_);
  }
  const Tensor codes = q.codes.contiguous();
  const auto* from = codes.const_data_ptr<int8_t>();
  at::parallel_for(0, tiles_, ceil_div(kWork, cut_.in * kCodeColumns), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      pack_tile(from, tile);
      sum_groups(from, tile);
    }
  });
}

// `one_scale`: rows.one_scale is that of rows and weight together.
void PackedWeight::multiply(const Rows& rows, bool one_scale, float* y) const {
  const Tensor& scale = one_scale ? ones_ : scale_;
  const int64_t count = rows.count, grid = cut_.groups * kCodeColumns;
  const auto multiply_tiles = [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kCodeColumns;
    kernels::run(kernels::CodeProduct{
        .row_codes = rows.codes,
        .row_sums = rows.sums.get(),
        .row_zero = rows.zero.get(),
        .row_scale = one_scale ? &rows.one_scale : rows.scale.const_data_ptr<float>(),
        .column_codes = codes_.const_data_ptr<uint8_t>() + begin * tile_bytes(),
        .column_sums = sums_.const_data_ptr<int32_t>() + begin * grid,
        .column_zero = zero_.defined() ? zero_.const_data_ptr<uint8_t>() + begin * grid : nullptr,
        .column_scale = scale.const_data_ptr<float>() + begin * grid,
        .y = y + first,
        .row_stride = cut_.quads * 4,
        .row_scale_stride = rows.scale.numel() == 1 ? 0 : 1,
        .y_stride = out_,
        .rows = count,
        .columns = std::min(out_, end * kCodeColumns) - first,
        .quads = cut_.quads,
        .group_quads = cut_.group_quads,
        .column_bits = cut_.bits});
  };
  const int64_t work = std::max<int64_t>(1, count) * cut_.in * kCodeColumns;  // of a tile
  at::parallel_for(0, tiles_, ceil_div(kWork, work), multiply_tiles);
}

Tensor PackedWeight::product(const Activation& x) const {
  TORCH_CHECK(x.codes.is_cpu() && x.codes.size(-1) == cut_.in, "activations ", x.codes.sizes(), " on ",
              x.codes.device(), " for a weight with ", cut_.in, " columns on the CPU");
  Rows rows = rows_of(x, cut_);
  // If both scales are one number their product is taken first, and the columns' are 1.
  const bool one_scale = ones_.defined() && !x.scheme.per_token;
  if (one_scale) rows.one_scale = *rows.scale.const_data_ptr<float>() * one_scale_;
  std::vector<int64_t> shape = x.codes.sizes().vec();
  shape.back() = out_;
  const Tensor y = at::empty(shape, at::kFloat);
  multiply(rows, one_scale, y.data_ptr<float>());
  return y;
}

// The longest row, or group, whose sums fit in 32 bits.
int64_t longest_sum(const WeightScheme& scheme) {
  return std::numeric_limits<int32_t>::max() / (kLargestRowCode * centered_bound(scheme));
}

}  // namespace

bool code_product_supports(const WeightScheme& weight, const ActivationScheme& activation) {
  return exact_product_supports(weight, activation) &&
         (weight.granularity != Granularity::kGroup || weight.group % 4 == 0);
}

std::shared_ptr<const PreparedWeight> prepare_code_product(const QuantizedTensor& weight) {
  const Cut cut = cut_of(weight.codes.size(1), weight.scheme);
  const bool serves = weight.codes.is_cpu() && weight.codes.numel() > 0 &&
                      std::min(cut.in, cut.group_quads * 4) <= longest_sum(weight.scheme) &&
                      kernels::chosen<kernels::CodeProduct>().isa != kernels::Isa::kPlain;
  if (!serves) return prepare_exact_product(weight);
  return std::make_shared<PackedWeight>(weight);
}

}  // namespace ptq
