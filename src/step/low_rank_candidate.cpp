#include "step/low_rank_candidate.h"

#include <cstdio>

#include "ptq/base/error.h"
#include "ptq/report/rows.h"
#include "step/weight_rounding.h"

namespace ptq {

double energy_of_error(const Candidate& candidate) {
  const double a = candidate.row.shrinkage;
  if (candidate.row.variant != "exact" || a == 1)
    return output_energy(candidate.D, candidate.input->R.to(at::kFloat));
  if (a == 0) return candidate.solution.energy;
  // The solution's energy is (1 - a) of the one wanted and a of that under the diagonal.
  const Tensor d = candidate.D.to(at::kDouble);
  const double diagonal = (d * d * candidate.input->R.diagonal()).sum().item<double>();
  return (candidate.solution.energy - a * diagonal) / (1 - a);
}

void expect_held(const std::string& linear, const Tensor& A, const Tensor& B, at::ScalarType stored) {
  constexpr double kLargest = 65504, kSmallestNormal = 0x1p-14;
  if (stored != at::kHalf) return;
  for (const Tensor& factor : {A, B}) {
    const auto largest = factor.abs().max().item<double>();
    if (largest == 0 || (largest <= kLargest && largest >= kSmallestNormal)) continue;
    char text[32];
    std::snprintf(text, sizeof(text), "%.1e", largest);
    throw Error(
        linear,
        std::string("a factor of its correction reaches ") + text + "; float16 holds 6.1e-05 to 65504",
        "stored = \"bf16\"");
  }
}

Parcel parcel_of(const Candidate& candidate) {
  LayerRow layer;
  layer.correction = candidate.row;
  Report report;
  report.layers.push_back(std::move(layer));
  Parcel parcel = parcel_of(candidate.codes.value_or(QuantizedTensor()));
  parcel.text = rows_to_json(report).dump();
  const LowRank correction = candidate.correction.value_or(LowRank());
  for (const Tensor& part : {correction.A, correction.B, correction.A_scale, correction.B_scale})
    parcel.add(part);
  return parcel;
}

CorrectionRow take(const Parcel& parcel, const Candidate& candidate, at::ScalarType stored) {
  Linear& linear = *candidate.linear;
  ParcelReader reader(parcel);
  QuantizedTensor codes = quantized_of(reader, candidate.base.scheme, linear.weight.device());
  if (codes.codes.defined()) linear.weight.set(std::move(codes));
  const auto next = [&] {
    const Tensor part = reader.tensor();
    return part.defined() ? part.to(linear.weight.device()) : part;
  };
  LowRank correction;
  correction.A = next();
  correction.B = next();
  correction.stored = stored;
  correction.A_scale = next();
  correction.B_scale = next();
  if (correction.A.defined()) linear.correction = std::move(correction);
  Report report;
  rows_from_json(parse_json(parcel.text, linear.name), linear.name, report);
  return *report.layers.at(0).correction;
}

}  // namespace ptq
