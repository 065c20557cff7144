// One correction on its way, in the step low_rank.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ptq/comm/parcel.h"
#include "ptq/model/linear.h"
#include "ptq/report/report.h"
#include "ptq/solve/low_rank.h"

namespace ptq {

// What is known of a site's input, and the metrics to solve with.
struct SiteInput {
  Tensor R;                          // [in, in] float64, of the calibration windows
  Tensor R_held_out;                 // [in, in] float64, of the held-out windows; for `auto` only
  std::vector<InputMetric> metrics;  // of sites that this process solves for
};

// A correction whose rank is not final.
struct Candidate {
  Linear* linear = nullptr;
  const SiteInput* input = nullptr;
  Tensor W;                              // [out, in] before rounding
  QuantizedTensor base;                  // as the steps before have rounded it
  std::optional<QuantizedTensor> codes;  // that are better with the correction
  std::optional<LowRank> correction;
  int64_t rank = 0;                     // at most
  const InputMetric* metric = nullptr;  // that it is solved with
  Tensor D;                             // [out, in] the error of the weight that it corrects
  LowRankSolution solution;
  CorrectionRow row;
};

// trace(D R D^T) under the second moment itself, whatever metric the solution is from.
double energy_of_error(const Candidate& candidate);

// Throws Error if factors of float16 overflow, or lose their digits below its range: they are no correction.
void expect_held(const std::string& linear, const Tensor& A, const Tensor& B, at::ScalarType stored);

// What came of a candidate, for other processes: its row, its codes if they have changed, its correction
// if it has one.
Parcel parcel_of(const Candidate& candidate);
// Gives it to the candidate's linear, and returns the row. `stored`: dtype of the correction on disk.
CorrectionRow take(const Parcel& parcel, const Candidate& candidate, at::ScalarType stored);

}  // namespace ptq
