// Codes of few bits as bytes.
#include "ptq/codec/packing.h"

#include <gtest/gtest.h>

namespace ptq {
namespace {

WeightScheme format_of(NumberFormat format, int bits) {
  WeightScheme scheme;
  scheme.bits = bits;
  scheme.granularity = Granularity::kGroup;
  scheme.group = kMxintGroup;
  scheme.format = format;
  return scheme;
}

Tensor codes_of(const std::vector<int64_t>& codes) {
  return at::tensor(codes).to(at::kChar).unsqueeze(0);
}

std::vector<WeightScheme> schemes() {
  std::vector<WeightScheme> all = {format_of(NumberFormat::kNf4, 4)};
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    all.push_back(format_of(NumberFormat::kInteger, bits));
    all.push_back(format_of(NumberFormat::kMxint, bits));
  }
  return all;
}

TEST(PackCodes, EveryCodeSurvivesEveryWidth) {
  at::manual_seed(1);
  for (const WeightScheme& scheme : schemes()) {
    for (const int64_t in : {1, 2, 7, 8, 9, 31, 32, 129}) {
      const Tensor codes = at::randint(scheme.low(), scheme.high() + 1, {300, in}).to(at::kChar);
      const Tensor packed = pack_codes(codes, scheme);
      ASSERT_EQ(packed.scalar_type(), at::kByte);
      ASSERT_EQ(packed.size(1), packed_row_bytes(in, scheme.bits));
      EXPECT_TRUE(at::equal(unpack_codes(packed, in, scheme), codes))
          << number_format_name(scheme.format) << scheme.bits << " " << in;
    }
  }
}

TEST(PackCodes, ManyRowsAreTheSameAsOneByOne) {
  at::manual_seed(2);
  const WeightScheme scheme = format_of(NumberFormat::kInteger, 3);
  const Tensor codes = at::randint(-4, 4, {700, 3001}).to(at::kChar);  // more than are packed at a time
  const Tensor packed = pack_codes(codes, scheme);
  for (const int64_t row : {0, 348, 349, 699})
    EXPECT_TRUE(at::equal(packed[row], pack_codes(codes.slice(0, row, row + 1), scheme)[0])) << row;
  EXPECT_TRUE(at::equal(unpack_codes(packed, 3001, scheme), codes));
}

TEST(PackCodes, FourBitsPutEvenElementsInTheLowNibbleAndZerosBehind) {
  const Tensor packed = pack_codes(codes_of({-8, 7, 1}), format_of(NumberFormat::kInteger, 4));
  EXPECT_TRUE(at::equal(packed, at::tensor({0xf0, 0x09}).to(at::kByte).unsqueeze(0)));
  const Tensor nf4 = pack_codes(codes_of({0, 15, 7}), format_of(NumberFormat::kNf4, 4));
  EXPECT_TRUE(at::equal(nf4, at::tensor({0xf0, 0x07}).to(at::kByte).unsqueeze(0)));
}

TEST(PackCodes, ThreeBitsAreALittleEndianStream) {
  // Fields 0 to 7: 000 001 010 011 100 101 110 111, the first in the lowest bits.
  const Tensor packed =
      pack_codes(codes_of({-4, -3, -2, -1, 0, 1, 2, 3}), format_of(NumberFormat::kInteger, 3));
  EXPECT_TRUE(at::equal(packed, at::tensor({0x88, 0xc6, 0xfa}).to(at::kByte).unsqueeze(0)));
}

TEST(PackCodes, MxintHasItsSignOnTop) {
  const Tensor packed = pack_codes(codes_of({-127, 127, -1, 0}), format_of(NumberFormat::kMxint, 8));
  EXPECT_TRUE(at::equal(packed, at::tensor({0xff, 0x7f, 0x81, 0x00}).to(at::kByte).unsqueeze(0)));
  const Tensor ternary = pack_codes(codes_of({-1, 0, 1, -1}), format_of(NumberFormat::kMxint, 2));
  EXPECT_TRUE(at::equal(ternary, at::tensor({0xd3}).to(at::kByte).unsqueeze(0)));
}

TEST(PackExponents, EveryExponentOfAFloatSurvives) {
  for (const int bits : {2, 3, 4, 8}) {
    const Tensor bytes = at::arange(1, 255).to(at::kByte);
    EXPECT_TRUE(at::equal(pack_exponents(unpack_exponents(bytes, bits), bits), bytes));
  }
  EXPECT_EQ(unpack_exponents(at::full({1}, 127, at::kByte), 4).item<float>(), 0.25F);
}

}  // namespace
}  // namespace ptq
