// Comparisons that count and say what differs, and the loop over a folder of cases.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include "golden.h"
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

  // Where the authors' limits on scales bind, ours follows the values instead: what `ours` stands for lies no
  // further from x than what theirs does.
  void no_worse(const std::string& what, const Tensor& x, const Tensor& ours, const Tensor& theirs) {
    const auto error = [&x](const Tensor& y) { return (y - x).to(at::kDouble).norm().item<double>(); };
    if (same_shape(what, ours, theirs)) expect(error(ours) <= error(theirs), what + " is further from x");
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

// The units of a document, each by the row of `table` with its name: run(row, unit). Those without a row are
// printed as skipped, unless they are no units.
template <typename Table, typename Run>
void run_units(const Json& document, const Table& table, const Checks& checks, const Run& run) {
  for (const auto& [name, unit] : document.items()) {
    const auto* found = std::find_if(std::begin(table), std::end(table),
                                     [&](const auto& candidate) { return name == candidate.name; });
    if (found != std::end(table)) {
      run(*found, unit);
    } else if (unit.is_object() && name != "about" && name != "upstream") {
      std::printf("skipped %s %s\n", checks.name().c_str(), name.c_str());
    }
  }
}

using RunCase = void (*)(const std::filesystem::path& json_path, Checks& checks);

// Whether the case passed: at least one comparison, and none that failed.
inline bool passes(RunCase run, const std::filesystem::path& path) {
  Checks checks(path.stem().string());
  try {
    run(path, checks);
  } catch (const std::exception& error) {
    checks.expect(false, error.what());
  }
  std::printf("%s: %zu comparisons, %zu failed\n", checks.name().c_str(), checks.count(), checks.failed());
  return checks.failed() == 0 && checks.count() > 0;
}

// Runs every case of golden/FOLDER for which find(path) is not null; the others are printed as skipped.
// Returns the exit code: 0 if at least one ran and none failed.
template <typename Find>
int run_cases(const std::string& folder, const Find& find) {
  size_t ran = 0;
  size_t failed = 0;
  for (const std::filesystem::path& path : case_files(directory(folder))) {
    const RunCase run = find(path);
    if (run == nullptr) {
      std::printf("skipped %s\n", path.stem().c_str());
      continue;
    }
    ++ran;
    if (!passes(run, path)) ++failed;
  }
  std::printf("ran %zu cases, %zu failed\n", ran, failed);
  if (ran == 0) std::printf("no case was found\n");
  return ran == 0 || failed > 0 ? 1 : 0;
}

}  // namespace ptq::golden
