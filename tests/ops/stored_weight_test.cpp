// Products of floats with weights as they are stored, against the float32 product of what those stand for.
#include "ptq/ops/stored_weight.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <vector>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

struct Form {
  const char* name;
  StoredWeight weight;
  Tensor values;           // what it stands for
  bool in_floats = false;  // held as float32: products are libtorch's
};

// Every way to store a weight [out, in].
std::vector<Form> forms(int64_t out, int64_t in) {
  at::manual_seed(static_cast<uint64_t>(out * 1000 + in));
  const Tensor w = at::randn({out, in});
  std::vector<Form> all = {{"float32", StoredWeight(w), w, true}};
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16})
    all.push_back({at::toString(type), StoredWeight(w.to(type)), w.to(type).to(at::kFloat)});
  const std::pair<const char*, WeightScheme> schemes[] = {
      {"int8, one scale", {8, Granularity::kTensor}},
      {"int8, rows", {8, Granularity::kChannel}},
      {"int6, rows", {6, Granularity::kChannel}},
      {"int8, groups of 12", {8, Granularity::kGroup, 12, true, true}},
      {"int4, groups of 32, zero points", {4, Granularity::kGroup, 32, true, false}},
      {"int4, groups of 64", {4, Granularity::kGroup, 64, true, true}},
      {"int4, groups of 20", {4, Granularity::kGroup, 20, true, true}},
      {"int4, rows, zero points", {4, Granularity::kChannel, 0, false, false}},
      {"int3, groups of 32", {3, Granularity::kGroup, 32, true, true}},
      {"int2, groups of 32, zero points", {2, Granularity::kGroup, 32, true, false}},
      {"MXINT4", {4, Granularity::kGroup, 32, false, true, NumberFormat::kMxint}},
      {"MXINT8", {8, Granularity::kGroup, 32, false, true, NumberFormat::kMxint}},
      {"NF4, groups of 64", {4, Granularity::kGroup, 64, false, true, NumberFormat::kNf4}},
  };
  for (const auto& [name, scheme] : schemes) {
    const QuantizedTensor q = round_to_nearest(w, scheme);
    all.push_back({name, StoredWeight(q), dequantize(q)});
  }
  const QuantizedTensor odd =
      round_to_nearest(w, {4, Granularity::kGroup, 24, false, true, NumberFormat::kNf4});
  all.push_back({"NF4, groups of 24", StoredWeight(odd), dequantize(odd), true});
  return all;
}

TEST(StoredWeight, RowsHaveTheBitsOfWhatTheyStandFor) {
  for (const int64_t in : {1, 31, 64, 100}) {
    const Tensor ids = at::tensor({2, 0, 6, 2, 5, 6}, at::kLong).view({2, 3});
    for (const Form& form : forms(7, in)) {
      const Tensor expected = at::embedding(form.values, ids);
      EXPECT_TRUE(at::equal(form.weight.rows(ids), expected)) << form.name << ", " << in;
    }
  }
}

TEST(StoredWeight, ManyRowsHaveTheBitsOfTheFloatProduct) {
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{300, 100}, {1100, 513}, {64, 31}}) {
    const Tensor x = at::randn({2, StoredWeight::kFewRows, in}), bias = at::randn({out});
    for (const Form& form : forms(out, in)) {
      EXPECT_TRUE(at::equal(form.weight.product(x), ops::linear(x, form.values))) << form.name;
      EXPECT_TRUE(at::equal(form.weight.product(x, bias), ops::linear(x, form.values, bias))) << form.name;
    }
  }
}

TEST(StoredWeight, FewRowsAgreeWithTheFloatProductInAnySplit) {
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{301, 100}, {17, 1025}, {1, 1}}) {
    const Tensor x = at::randn({1, StoredWeight::kFewRows - 1, in}), bias = at::randn({out});
    for (const Form& form : forms(out, in)) {
      const Tensor y = form.weight.product(x, bias);
      const Tensor magnitudes = ops::linear(x.abs(), form.values.abs(), bias.abs());
      const Tensor error = (y - ops::linear(x, form.values, bias)).abs();
      EXPECT_TRUE((error <= 1e-6 * magnitudes).all().item<bool>()) << form.name << ", " << in;
      if (form.in_floats) continue;
      const Tensor alone = form.weight.product(x.slice(1, 3, 4), bias);
      EXPECT_TRUE(at::equal(alone, y.slice(1, 3, 4))) << form.name << ", " << in;
    }
  }
}

TEST(StoredWeight, ResultsDoNotDependOnTheNumberOfThreads) {
  const int before = at::get_num_threads();
  const Tensor x = at::randn({3, 1024});
  for (const Form& form : forms(700, 1024)) {
    at::set_num_threads(1);
    const Tensor y = form.weight.product(x);
    at::set_num_threads(3);
    if (form.in_floats) continue;
    EXPECT_TRUE(at::equal(form.weight.product(x), y)) << form.name;
  }
  at::set_num_threads(before);
}

}  // namespace
}  // namespace ptq
