// Weights as they are stored: every instruction set against the plain loops.
#include <cstring>
#include <memory>

#include "inputs.h"

namespace ptq::kernels {
namespace {

struct Shape {
  Stored stored;
  int64_t rows, columns, group;
  bool zeros = false, one_scale = false, no_scale = false;

  int64_t groups() const { return one_scale ? 1 : (columns + group - 1) / group; }
  std::string text() const {
    std::string all;
    for (const int64_t part : {static_cast<int64_t>(stored), rows, columns, group, int64_t{zeros}})
      all += " " + std::to_string(part);
    return all;
  }
};

// A weight whose bytes end where an allocation ends, so that a sanitizer sees what reads past it.
class StoredWeight {
 public:
  explicit StoredWeight(const Shape& shape) : s_(shape) {
    std::mt19937 random(static_cast<unsigned>(s_.columns * 7 + s_.rows));
    const bool half = s_.stored == Stored::kU4, byte = s_.stored == Stored::kI8;
    row_bytes_ = half ? (s_.columns + 31) / 32 * 16 : byte ? s_.columns : 2 * s_.columns;
    size_ = static_cast<size_t>(s_.rows * row_bytes_);
    bytes_ = std::make_unique<uint8_t[]>(size_);
    for (size_t i = 0; i < size_; ++i) bytes_[i] = static_cast<uint8_t>(random());
    if (!half && !byte) {
      for (size_t i = 1; i < size_; i += 2) bytes_[i] = static_cast<uint8_t>(0x3c | (bytes_[i] & 0x80));
      // A denormal number, the largest finite one of float16, and 0.
      const uint16_t special[] = {0x0001, 0x7bff, 0x8000};
      std::memcpy(bytes_.get(), special, std::min(sizeof(special), size_));
    }
    for (float& value : table_) value = static_cast<float>(random() % 1000) / 500 - 1;
    const auto count = static_cast<size_t>(s_.one_scale ? 1 : s_.rows * s_.groups());
    for (size_t i = 0; i < count; ++i) {
      scale_.push_back(static_cast<float>(random() % 1000 + 1) / 1000);
      zero_.push_back(static_cast<int8_t>(random()));
    }
  }
  StoredRows rows() const {
    return {.stored = s_.stored,
            .data = bytes_.get(),
            .table = s_.stored == Stored::kU4 ? table_ : nullptr,
            .scale = s_.no_scale ? nullptr : scale_.data(),
            .zero = s_.zeros ? zero_.data() : nullptr,
            .row_bytes = row_bytes_,
            .columns = s_.columns,
            .group = s_.group,
            .one_scale = s_.one_scale};
  }

 private:
  Shape s_;
  int64_t row_bytes_ = 0;
  size_t size_ = 0;
  std::unique_ptr<uint8_t[]> bytes_;
  float table_[16];
  std::vector<float> scale_;
  std::vector<int8_t> zero_;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const int64_t columns : {1, 7, 8, 15, 16, 31, 33, 64, 100, 259}) {
    for (const int64_t rows : {1, 2, 9, 17}) {
      for (const Stored stored : {Stored::kF16, Stored::kBf16})
        all.push_back({stored, rows, columns, columns, false, false, true});
      for (const Stored stored : {Stored::kI8, Stored::kU4}) {
        all.push_back({stored, rows, columns, columns});
        all.push_back({stored, rows, columns, 32, true});
        all.push_back({stored, rows, columns, stored == Stored::kI8 ? 6 : 64});
        all.push_back({stored, rows, columns, columns, true, true});
      }
    }
  }
  return all;
}

std::vector<float> widened(const Candidate<WidenRows>& kernel, const StoredWeight& weight, const Shape& s,
                           int64_t first) {
  Output y(s.rows - first, s.columns, s.columns + 3);
  kernel.run(
      {.w = weight.rows(), .y = y.data(), .y_stride = s.columns + 3, .first = first, .rows = s.rows - first});
  return y.take();
}

std::vector<float> product(const Candidate<StoredProduct>& kernel, const StoredWeight& weight, const Shape& s,
                           const std::vector<float>& x, int64_t rows, int64_t first) {
  Output y(rows, s.rows - first, s.rows + 5);
  kernel.run({.x = x.data(),
              .w = weight.rows(),
              .y = y.data(),
              .x_stride = s.columns,
              .y_stride = s.rows + 5,
              .rows = rows,
              .first = first,
              .columns = s.rows - first});
  return y.take();
}

TEST(WidenRows, EveryInstructionSetGivesTheBitsOfPlainLoops) {
  for (const Shape& s : shapes()) {
    const StoredWeight weight(s);
    for (const int64_t first : {int64_t{0}, s.rows / 2}) {
      const std::vector<float> expected = widened(candidates<WidenRows>()[0], weight, s, first);
      for (const Candidate<WidenRows>& kernel : candidates<WidenRows>()) {
        if (!supports(kernel.isa)) continue;
        const std::vector<float> y = widened(kernel, weight, s, first);
        ASSERT_EQ(0, std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)))
            << isa_name(kernel.isa) << s.text();
      }
    }
  }
}

TEST(WidenRows, NumbersOf16BitsAreThoseOfTheStandards) {
  const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x0400};
  const float expected[] = {1, -2, 0x1p-24F, 65504, INFINITY, 0x1p-14F};
  const uint16_t bfloats[] = {0x3f80, 0xc000, 0x0001, 0x7f7f, 0x7f80, 0x0080};
  const float expected_b[] = {1, -2, 0x1p-133F, 0x1.fep127F, INFINITY, 0x1p-126F};
  for (const Candidate<WidenRows>& kernel : candidates<WidenRows>()) {
    if (!supports(kernel.isa)) continue;
    float y[6];
    StoredRows w{.stored = Stored::kF16, .data = halves, .row_bytes = 12, .columns = 6, .group = 6};
    kernel.run({.w = w, .y = y, .y_stride = 6, .first = 0, .rows = 1});
    for (int i = 0; i < 6; ++i) EXPECT_EQ(y[i], expected[i]) << isa_name(kernel.isa) << " " << i;
    w.stored = Stored::kBf16;
    w.data = bfloats;
    kernel.run({.w = w, .y = y, .y_stride = 6, .first = 0, .rows = 1});
    for (int i = 0; i < 6; ++i) EXPECT_EQ(y[i], expected_b[i]) << isa_name(kernel.isa) << " " << i;
  }
}

// Within what additions in another order may differ by; the sum of magnitudes comes from the same loops.
TEST(StoredProduct, EveryInstructionSetAgreesWithThePlainLoops) {
  for (const Shape& s : shapes()) {
    const StoredWeight weight(s);
    for (const int64_t rows : {1, 3, 6}) {
      const std::vector<float> x = values("outlier", rows, s.columns);
      const std::vector<float> w = widened(candidates<WidenRows>()[0], weight, s, s.rows / 2);
      const std::vector<float> expected =
          product(candidates<StoredProduct>()[0], weight, s, x, rows, s.rows / 2);
      for (const Candidate<StoredProduct>& kernel : candidates<StoredProduct>()) {
        if (!supports(kernel.isa)) continue;
        const std::vector<float> y = product(kernel, weight, s, x, rows, s.rows / 2);
        const auto out = y.size() / static_cast<size_t>(rows), in = static_cast<size_t>(s.columns);
        for (size_t i = 0; i < y.size(); ++i) {
          double bound = 0;  // of codes and zero points that are larger than their difference, too
          for (size_t k = 0; k < in; ++k)
            bound += std::fabs(static_cast<double>(x[i / out * in + k]) * w[i % out * in + k]);
          ASSERT_NEAR(y[i], expected[i], 1e-6 * bound) << isa_name(kernel.isa) << s.text() << " at " << i;
        }
      }
    }
  }
}

TEST(StoredProduct, RowsTogetherGiveTheBitsOfRowsAlone) {
  for (const Stored stored : {Stored::kF16, Stored::kBf16, Stored::kI8, Stored::kU4}) {
    const Shape s{stored, 21, 259, 64};
    const StoredWeight weight(s);
    const std::vector<float> x = values("normal", 7, s.columns);
    for (const Candidate<StoredProduct>& kernel : candidates<StoredProduct>()) {
      if (!supports(kernel.isa)) continue;
      const std::vector<float> together = product(kernel, weight, s, x, 7, 0);
      for (int64_t r = 0; r < 7; ++r) {
        const std::vector<float> row(x.begin() + r * s.columns, x.begin() + (r + 1) * s.columns);
        const std::vector<float> alone = product(kernel, weight, s, row, 1, 0);
        ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + r * s.rows))
            << isa_name(kernel.isa) << s.text();
      }
    }
  }
}

TEST(WeightedRows, EveryInstructionSetAgreesWithThePlainLoops) {
  for (const Shape& s : shapes()) {
    if (s.groups() != 1) continue;
    const StoredWeight weight(s);
    for (const int64_t rows : {1, 3, 9}) {
      const int64_t first = s.rows / 2, count = s.rows - first, stride = s.columns + 5;
      const std::vector<float> x = values("normal", rows, count);
      const std::vector<float> w = widened(candidates<WidenRows>()[0], weight, s, first);
      std::vector<float> expected;
      for (const Candidate<WeightedRows>& kernel : candidates<WeightedRows>()) {
        if (!supports(kernel.isa)) continue;
        Output output(rows, s.columns, stride);
        kernel.run({.x = x.data(),
                    .w = weight.rows(),
                    .y = output.data(),
                    .x_stride = count,
                    .y_stride = stride,
                    .rows = rows,
                    .first = first,
                    .count = count});
        const std::vector<float> y = output.take();
        if (expected.empty()) expected = y;
        for (size_t i = 0; i < y.size(); ++i) {
          const auto columns = static_cast<size_t>(s.columns), size = static_cast<size_t>(count);
          double bound = 0;
          for (size_t c = 0; c < size; ++c)
            bound += std::fabs(static_cast<double>(x[i / columns * size + c]) * w[c * columns + i % columns]);
          ASSERT_NEAR(y[i], expected[i], 1e-6 * bound) << isa_name(kernel.isa) << s.text() << " at " << i;
        }
      }
    }
  }
}

TEST(Softmax, EveryInstructionSetAgreesWithThePlainLoops) {
  for (const char* name : {"flat", "ramp", "normal", "outlier", "huge"}) {
    for (const int64_t columns : {1, 7, 16, 33, 200}) {
      const std::vector<float> x = values(name, 3, columns);
      std::vector<float> expected;
      for (const Candidate<Softmax>& kernel : candidates<Softmax>()) {
        if (!supports(kernel.isa)) continue;
        std::vector<float> y = x;
        kernel.run({.x = y.data(), .x_stride = columns, .rows = 3, .columns = columns, .scale = 0.125F});
        if (expected.empty()) expected = y;
        for (size_t i = 0; i < y.size(); ++i)
          ASSERT_NEAR(y[i], expected[i], 2e-6) << isa_name(kernel.isa) << " " << name << columns;
        for (size_t r = 0; r < 3; ++r) {
          double sum = 0;
          for (size_t c = 0; c < static_cast<size_t>(columns); ++c)
            sum += y[r * static_cast<size_t>(columns) + c];
          EXPECT_NEAR(sum, 1, 1e-5);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ptq::kernels
