#include "ptq/codec/ggml_types.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

#include "codec/ggml_blocks.h"

namespace ptq {
namespace {

constexpr int64_t kWork = 1 << 14;  // values that are worth a thread

struct Codec {
  void (*pack)(const float* x, uint8_t* block);
  void (*unpack)(const uint8_t* block, float* x);
};

// Parallel to kTypes; none for floats.
constexpr std::array<GgmlTypeEntry, 12> kTypes = {{
    {GgmlType::kF32, "F32", "f32", 1, 4, 0},
    {GgmlType::kF16, "F16", "f16", 1, 2, 1},
    {GgmlType::kBF16, "BF16", "bf16", 1, 2, 32},
    {GgmlType::kQ8_0, "Q8_0", "q8_0", 32, 34, 7},
    {GgmlType::kQ4_0, "Q4_0", "q4_0", 32, 18, 2},
    {GgmlType::kQ4_1, "Q4_1", "q4_1", 32, 20, 3},
    {GgmlType::kQ5_0, "Q5_0", "q5_0", 32, 22, 8},
    {GgmlType::kQ5_1, "Q5_1", "q5_1", 32, 24, 9},
    {GgmlType::kIQ4_NL, "IQ4_NL", "iq4_nl", 32, 18, 25},
    {GgmlType::kQ4_K, "Q4_K", "q4_k", 256, 144, 15},
    {GgmlType::kQ5_K, "Q5_K", "q5_k", 256, 176, 17},
    {GgmlType::kQ6_K, "Q6_K", "q6_k", 256, 210, 18},
}};

constexpr std::array<Codec, kTypes.size()> kCodecs = {{
    {nullptr, nullptr},
    {nullptr, nullptr},
    {nullptr, nullptr},
    {ggml::pack_q8_0, ggml::unpack_q8_0},
    {ggml::pack_q4_0, ggml::unpack_q4_0},
    {ggml::pack_q4_1, ggml::unpack_q4_1},
    {ggml::pack_q5_0, ggml::unpack_q5_0},
    {ggml::pack_q5_1, ggml::unpack_q5_1},
    {ggml::pack_iq4_nl, ggml::unpack_iq4_nl},
    {ggml::pack_q4_k, ggml::unpack_q4_k},
    {ggml::pack_q5_k, ggml::unpack_q5_k},
    {ggml::pack_q6_k, ggml::unpack_q6_k},
}};

const Codec& codec_of(const GgmlTypeEntry& type) {
  return kCodecs[static_cast<size_t>(&type - kTypes.data())];
}

at::ScalarType float_type(GgmlType type) {
  return type == GgmlType::kF32 ? at::kFloat : type == GgmlType::kF16 ? at::kHalf : at::kBFloat16;
}

template <typename Visit>  // visit(block)
void for_each_block(int64_t blocks, int64_t values, const Visit& visit) {
  at::parallel_for(0, blocks, std::max<int64_t>(1, kWork / values), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) visit(i);
  });
}

// One scale, or zero point, for each block of `block` inputs: [out, in / block].
Tensor for_each_input_block(const Tensor& grid, const QuantizedTensor& q, int64_t block) {
  const int64_t out = q.codes.size(0), blocks = q.codes.size(1) / block;
  switch (q.scheme.granularity) {
    case Granularity::kTensor:
      return grid.reshape({1, 1}).expand({out, blocks}).contiguous();
    case Granularity::kChannel:
      return grid.reshape({out, 1}).expand({out, blocks}).contiguous();
    case Granularity::kGroup:
      // A shorter last group has fewer blocks.
      return grid.repeat_interleave(q.scheme.group / block, 1).narrow(1, 0, blocks).contiguous();
  }
  return {};
}

}  // namespace

std::span<const GgmlTypeEntry> ggml_types() {
  return kTypes;
}

const GgmlTypeEntry* find_ggml_type(uint32_t number) {
  for (const GgmlTypeEntry& entry : kTypes) {
    if (static_cast<uint32_t>(entry.type) == number) return &entry;
  }
  return nullptr;
}

const GgmlTypeEntry* find_ggml_type(std::string_view option) {
  for (const GgmlTypeEntry& entry : kTypes) {
    if (entry.option == option) return &entry;
  }
  return nullptr;
}

const GgmlTypeEntry& ggml_type(GgmlType type) {
  return *find_ggml_type(static_cast<uint32_t>(type));
}

Tensor pack_ggml(const Tensor& x, GgmlType type) {
  const GgmlTypeEntry& entry = ggml_type(type);
  if (entry.is_float()) return x.to(float_type(type)).contiguous().view(at::kByte);
  const Tensor from = x.contiguous(), to = at::empty({x.size(0), entry.row_bytes(x.size(1))}, at::kByte);
  const float* values = from.const_data_ptr<float>();
  auto* bytes = to.data_ptr<uint8_t>();
  for_each_block(x.numel() / entry.block, entry.block, [&](int64_t i) {
    codec_of(entry).pack(values + i * entry.block, bytes + i * entry.block_bytes);
  });
  return to;
}

Tensor unpack_ggml(const Tensor& bytes, GgmlType type) {
  const GgmlTypeEntry& entry = ggml_type(type);
  if (entry.is_float()) return bytes.contiguous().view(float_type(type)).to(at::kFloat);
  const int64_t row_blocks = bytes.size(1) / entry.block_bytes;
  const Tensor from = bytes.contiguous(),
               x = at::empty({bytes.size(0), row_blocks * entry.block}, at::kFloat);
  const auto* blocks = from.const_data_ptr<uint8_t>();
  auto* values = x.data_ptr<float>();
  for_each_block(bytes.size(0) * row_blocks, entry.block, [&](int64_t i) {
    codec_of(entry).unpack(blocks + i * entry.block_bytes, values + i * entry.block);
  });
  return x;
}

bool holds_codes(const WeightScheme& scheme, int64_t in, GgmlType& type) {
  const bool in_one_group = scheme.granularity != Granularity::kGroup || scheme.group % ggml::kBlock == 0;
  if (!scheme.is_linear() || in % ggml::kBlock != 0 || !in_one_group) return false;
  if (!scheme.symmetric && scheme.bits > 4) return false;  // code - zero has 9 bits
  type = !scheme.symmetric ? GgmlType::kQ4_1 : scheme.bits <= 4 ? GgmlType::kQ4_0 : GgmlType::kQ8_0;
  return true;
}

Tensor pack_codes_ggml(const QuantizedTensor& q, GgmlType type) {
  const GgmlTypeEntry& entry = ggml_type(type);
  const Tensor codes = q.codes.cpu().contiguous();
  const Tensor scales = for_each_input_block(q.scale, q, entry.block).cpu();
  const Tensor zeros = q.zero.defined() ? for_each_input_block(q.zero, q, entry.block).cpu() : Tensor();
  const Tensor to = at::empty({codes.size(0), entry.row_bytes(codes.size(1))}, at::kByte);
  const auto* from = codes.const_data_ptr<int8_t>();
  const float* scale = scales.const_data_ptr<float>();
  auto* bytes = to.data_ptr<uint8_t>();
  for_each_block(codes.numel() / entry.block, entry.block, [&](int64_t i) {
    const int8_t* code = from + i * entry.block;
    uint8_t* block = bytes + i * entry.block_bytes;
    ggml::store_half(scale[i], block);
    if (type == GgmlType::kQ8_0) {
      std::memcpy(block + 2, code, static_cast<size_t>(entry.block));
      return;
    }
    // Codes of a scheme with zero points are stored less 2^(bits - 1).
    const int first = zeros.defined() ? -static_cast<int>(int64_t{1} << (q.scheme.bits - 1)) : -8;
    uint8_t plain[ggml::kBlock];
    for (int j = 0; j < ggml::kBlock; ++j) plain[j] = static_cast<uint8_t>(code[j] - first);
    if (zeros.defined())
      ggml::store_half(scale[i] * static_cast<float>(first - zeros.const_data_ptr<int8_t>()[i]), block + 2);
    ggml::place_nibbles(plain, block + (zeros.defined() ? 4 : 2));
  });
  return to;
}

QuantizedTensor unpack_codes_ggml(const Tensor& bytes, GgmlType type) {
  const GgmlTypeEntry& entry = ggml_type(type);
  const Tensor from = bytes.contiguous();
  const int64_t out = bytes.size(0), row_blocks = bytes.size(1) / entry.block_bytes;
  QuantizedTensor q;
  q.scheme.bits = type == GgmlType::kQ8_0 ? 8 : 4;
  q.scheme.granularity = Granularity::kGroup;
  q.scheme.group = entry.block;
  q.scheme.half_scales = true;
  q.codes = at::empty({out, row_blocks * entry.block}, at::kChar);
  q.scale = at::empty({out, row_blocks}, at::kFloat);
  const auto* blocks = from.const_data_ptr<uint8_t>();
  auto* codes = q.codes.data_ptr<int8_t>();
  float* scale = q.scale.data_ptr<float>();
  for_each_block(out * row_blocks, entry.block, [&](int64_t i) {
    const uint8_t* block = blocks + i * entry.block_bytes;
    int8_t* code = codes + i * entry.block;
    scale[i] = ggml::load_half(block);
    if (type == GgmlType::kQ8_0) {
      std::memcpy(code, block + 2, static_cast<size_t>(entry.block));
      return;
    }
    uint8_t plain[ggml::kBlock];
    ggml::take_nibbles(block + 2, plain);
    for (int j = 0; j < ggml::kBlock; ++j) code[j] = static_cast<int8_t>(plain[j] - 8);
  });
  return q;
}

}  // namespace ptq
