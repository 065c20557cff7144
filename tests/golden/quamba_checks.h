// What the sorts of Quamba golden cases share: comparisons that count and say what differs.
#pragma once

#include <ATen/ATen.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "ptq/base/json.h"

namespace ptq::golden {

using at::Tensor;

// The comparisons of one case. A failure is printed when it happens.
class Checks {
 public:
  explicit Checks(std::string name) : name_(std::move(name)) {}

  void expect(bool holds, const std::string& what) {
    ++count_;
    if (holds) return;
    ++failed_;
    std::printf("FAILED %s: %s\n", name_.c_str(), what.c_str());
  }

  // Integers held in any dtype: the same shape and every one the same.
  void equal(const std::string& what, const Tensor& ours, const Tensor& expected) {
    if (!same_shape(what, ours, expected)) return;
    const auto differing = ours.to(at::kDouble).ne(expected.to(at::kDouble)).sum().item<int64_t>();
    expect(differing == 0,
           what + ": " + std::to_string(differing) + " of " + std::to_string(ours.numel()) + " differ");
  }

  // Largest difference at most `tolerance` times the largest expected magnitude.
  void near(const std::string& what, const Tensor& ours, const Tensor& expected, double tolerance) {
    if (!same_shape(what, ours, expected)) return;
    const double size = expected.abs().max().item<double>();
    const double error = (ours.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
    expect(error <= tolerance * size, what + ": differs by " + std::to_string(error) +
                                          " where the largest value is " + std::to_string(size));
  }

  void near(const std::string& what, double ours, double expected, double tolerance) {
    near(what, at::full({1}, ours, at::kDouble), at::full({1}, expected, at::kDouble), tolerance);
  }

  const std::string& name() const { return name_; }
  size_t count() const { return count_; }
  size_t failed() const { return failed_; }

 private:
  bool same_shape(const std::string& what, const Tensor& ours, const Tensor& expected) {
    if (ours.sizes() == expected.sizes()) return true;
    expect(false, what + ": another shape");
    return false;
  }

  std::string name_;
  size_t count_ = 0;
  size_t failed_ = 0;
};

// A case of the first paper's fake quantization: `stem`.json and `stem`.safetensors.
void run_paper_case(const std::filesystem::path& json_path, Checks& checks);

// Unit vectors, all in the JSON. Units of functions that the program lacks are printed as skipped.
void run_units(const std::filesystem::path& json_path, Checks& checks);

}  // namespace ptq::golden
