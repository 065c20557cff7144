// Blocks of ggml: layouts, the bytes that ggml makes, and errors no larger than its own.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ggml_golden.h"
#include "ptq/codec/ggml_types.h"

namespace ptq {
namespace {

using testing::GgmlGolden;
using testing::kGgmlGolden;

Tensor bytes_of(const char* digits) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; digits[i] != '\0'; i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(digits + i, 2), nullptr, 16)));
  return at::tensor(bytes, at::kByte).unsqueeze(0);
}

Tensor row_of(std::span<const double> values) {
  return at::tensor(std::vector<double>(values.begin(), values.end())).to(at::kFloat).unsqueeze(0);
}

Tensor input_of(GgmlType type) {
  return ggml_type(type).block == 32 ? row_of(testing::kGgmlInput32) : row_of(testing::kGgmlInput256);
}

double squared_error(const Tensor& a, const Tensor& b) {
  return (a - b).to(at::kDouble).square().sum().item<double>();
}

Tensor weights_like_a_models(int64_t rows, int64_t columns) {
  at::Generator generator = at::detail::createCPUGenerator(7);
  return at::randn({rows, columns}, generator) * 0.03;
}

bool is_searched(GgmlType type) {
  return type == GgmlType::kIQ4_NL || ggml_type(type).block == 256;
}

TEST(GgmlBlocks, GoldenBlocksHaveTheValuesThatGgmlReads) {
  for (const GgmlGolden& golden : kGgmlGolden) {
    SCOPED_TRACE(ggml_type(golden.type).name);
    // Those of K-quants were printed with seven digits.
    EXPECT_TRUE(
        at::allclose(unpack_ggml(bytes_of(golden.bytes), golden.type), row_of(golden.values), 0, 1e-6));
  }
}

TEST(GgmlBlocks, PlainBlocksAreByteForByteGgmls) {
  for (const GgmlGolden& golden : kGgmlGolden) {
    if (is_searched(golden.type)) continue;
    EXPECT_TRUE(at::equal(pack_ggml(input_of(golden.type), golden.type), bytes_of(golden.bytes)))
        << ggml_type(golden.type).name;
  }
}

TEST(GgmlBlocks, SearchedScalesLeaveNoMoreErrorThanGgmls) {
  for (const GgmlGolden& golden : kGgmlGolden) {
    if (!is_searched(golden.type)) continue;
    SCOPED_TRACE(ggml_type(golden.type).name);
    const Tensor x = input_of(golden.type);
    const Tensor ours = unpack_ggml(pack_ggml(x, golden.type), golden.type);
    const Tensor theirs = unpack_ggml(bytes_of(golden.bytes), golden.type);
    EXPECT_LE(squared_error(ours, x), 1.02 * squared_error(theirs, x));
  }
}

// The block of the format's description: d = .5, m = .25, and scales and minima that use all six bits.
TEST(GgmlBlocks, ScalesOfSixBitsAreReadFromBothPlaces) {
  Tensor block = at::zeros({1, 144}, at::kByte);
  const Tensor head = bytes_of("003800348182c3c44085cacf01020eff");
  block.narrow(1, 0, 16).copy_(head);
  block.narrow(1, 16, 128).fill_(0x11);  // every code is 1
  const Tensor x = unpack_ggml(block, GgmlType::kQ4_K);
  const double scale[] = {1, 2, 3, 4, 33, 34, 62, 63}, minimum[] = {0, 5, 10, 15, 16, 32, 48, 63};
  for (int64_t part = 0; part < 8; ++part)
    EXPECT_EQ(x[0][part * 32].item<double>(), 0.5 * scale[part] - 0.25 * minimum[part]) << part;
}

TEST(GgmlBlocks, EveryTypeIsReadBackAndPackedAgainTheSame) {
  const Tensor x = weights_like_a_models(3, 512);
  for (const GgmlTypeEntry& type : ggml_types()) {
    SCOPED_TRACE(type.name);
    const Tensor bytes = pack_ggml(x, type.type);
    EXPECT_EQ(bytes.size(1), type.row_bytes(512));
    const Tensor y = unpack_ggml(bytes, type.type);
    EXPECT_LT(squared_error(x, y), squared_error(x, at::zeros_like(x)) * 0.01);
    EXPECT_EQ(find_ggml_type(static_cast<uint32_t>(type.type)), &type);
    EXPECT_EQ(find_ggml_type(std::string_view(type.option)), &type);
  }
}

TEST(GgmlBlocks, MoreBitsLeaveLessError) {
  const Tensor x = weights_like_a_models(8, 1024);
  const auto error = [&](GgmlType type) { return squared_error(x, unpack_ggml(pack_ggml(x, type), type)); };
  EXPECT_LT(error(GgmlType::kQ4_1), error(GgmlType::kQ4_0));
  EXPECT_LT(error(GgmlType::kIQ4_NL), error(GgmlType::kQ4_1));
  EXPECT_LT(error(GgmlType::kQ4_K), error(GgmlType::kIQ4_NL));
  EXPECT_LT(error(GgmlType::kQ5_K), error(GgmlType::kQ5_0));
  EXPECT_LT(error(GgmlType::kQ6_K), error(GgmlType::kQ5_K));
  EXPECT_LT(error(GgmlType::kQ8_0), error(GgmlType::kQ6_K));
}

TEST(GgmlBlocks, ZerosConstantsAndTinyValuesAreHeld) {
  for (const GgmlTypeEntry& type : ggml_types()) {
    SCOPED_TRACE(type.name);
    for (const double value : {0.0, 1.0, -1.0, 1e-30, -1e-38}) {
      const Tensor x = at::full({1, 256}, value, at::kFloat);
      const Tensor y = unpack_ggml(pack_ggml(x, type.type), type.type);
      EXPECT_TRUE(at::isfinite(y).all().item<bool>()) << value;
      EXPECT_TRUE(at::allclose(x, y, 0.07, 1e-6)) << value << " " << y[0][0].item<float>();
    }
  }
}

TEST(GgmlBlocks, BytesDoNotDependOnTheNumberOfThreads) {
  const Tensor x = weights_like_a_models(64, 1024);
  const int threads = at::get_num_threads();
  const Tensor many = pack_ggml(x, GgmlType::kQ4_K);
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(pack_ggml(x, GgmlType::kQ4_K), many));
  at::set_num_threads(threads);
}

struct Scheme {
  WeightScheme scheme;
  GgmlType type;
  double tolerance;  // relative
};

std::vector<Scheme> schemes_with_a_home() {
  const auto made = [](int bits, Granularity granularity, int64_t group, bool symmetric,
                       NumberFormat format) {
    WeightScheme scheme;
    scheme.bits = bits;
    scheme.granularity = granularity;
    scheme.group = group;
    scheme.symmetric = symmetric;
    scheme.format = format;
    scheme.half_scales = granularity == Granularity::kGroup && format == NumberFormat::kInteger;
    return scheme;
  };
  constexpr auto kInteger = NumberFormat::kInteger, kMxint = NumberFormat::kMxint;
  return {{made(4, Granularity::kGroup, 32, true, kInteger), GgmlType::kQ4_0, 0},
          {made(3, Granularity::kGroup, 64, true, kInteger), GgmlType::kQ4_0, 0},
          {made(4, Granularity::kGroup, 128, true, kInteger), GgmlType::kQ4_0, 0},
          {made(4, Granularity::kGroup, 32, true, kMxint), GgmlType::kQ4_0, 0},
          {made(8, Granularity::kGroup, 32, true, kMxint), GgmlType::kQ8_0, 0},
          {made(8, Granularity::kTensor, 0, true, kInteger), GgmlType::kQ8_0, 5e-3},
          {made(6, Granularity::kChannel, 0, true, kInteger), GgmlType::kQ8_0, 5e-3},
          {made(4, Granularity::kGroup, 64, false, kInteger), GgmlType::kQ4_1, 4e-3},
          {made(4, Granularity::kChannel, 0, false, kInteger), GgmlType::kQ4_1, 4e-3}};
}

TEST(GgmlCodes, AreHeldAsTheyAre) {
  const Tensor w = weights_like_a_models(6, 192);
  for (const Scheme& each : schemes_with_a_home()) {
    SCOPED_TRACE(std::to_string(each.scheme.bits) + " bits, group " + std::to_string(each.scheme.group));
    const QuantizedTensor q = round_to_nearest(w, each.scheme);
    GgmlType type{};
    ASSERT_TRUE(holds_codes(q.scheme, 192, type));
    ASSERT_EQ(type, each.type);
    const Tensor expected = dequantize(q), found = unpack_ggml(pack_codes_ggml(q, type), type);
    const double step = q.scale.max().item<double>();
    EXPECT_LE((expected - found).abs().max().item<double>(), each.tolerance * step * 16);
    if (each.tolerance == 0) {
      EXPECT_TRUE(at::equal(expected, found));
    }
  }
}

TEST(GgmlCodes, HaveNoHomeWhereABlockLiesInTwoGroups) {
  WeightScheme scheme;
  scheme.bits = 4;
  scheme.granularity = Granularity::kGroup;
  scheme.group = 48;
  GgmlType type{};
  EXPECT_FALSE(holds_codes(scheme, 192, type));
  scheme.group = 64;
  EXPECT_TRUE(holds_codes(scheme, 192, type));
  EXPECT_FALSE(holds_codes(scheme, 200, type));
  scheme.bits = 8;
  scheme.symmetric = false;
  EXPECT_FALSE(holds_codes(scheme, 192, type));
  scheme.format = NumberFormat::kNf4;
  EXPECT_FALSE(holds_codes(scheme, 192, type));
}

TEST(GgmlCodes, BlocksBecomeCodesOfTheSameValues) {
  const Tensor x = weights_like_a_models(4, 128);
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0}) {
    const Tensor bytes = pack_ggml(x, type);
    const QuantizedTensor q = unpack_codes_ggml(bytes, type);
    EXPECT_TRUE(at::equal(dequantize(q), unpack_ggml(bytes, type)));
    EXPECT_EQ(q.scale.size(1), 4);
    EXPECT_TRUE(at::equal(pack_codes_ggml(q, type), bytes));
  }
}

}  // namespace
}  // namespace ptq
