#include "ptq/calibration/statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace ptq {
namespace {

// torch.quantile, which the authors use on one sample, holds the rank in float32. It refuses more than 2^24
// values, where float32 no longer tells neighbouring ranks apart; there the rank is float64.
double rank_of(int64_t n, double p) {
  constexpr int64_t kTorchLimit = int64_t{1} << 24;
  if (n > kTorchLimit) return p * static_cast<double>(n - 1);
  return static_cast<double>(static_cast<float>(p) * static_cast<float>(n - 1));
}

}  // namespace

SiteNeeds SiteNeeds::carried() const {
  SiteNeeds needs;
  needs.samples = samples;
  needs.second_moment = second_moment;
  return needs;
}

SiteNeeds SiteNeeds::direct() const {
  SiteNeeds needs = *this;
  needs.samples = 0;
  needs.second_moment = false;
  return needs;
}

bool SiteNeeds::empty() const {
  return !abs_max && !channel_abs_max && !channel_mean_abs && percentiles.empty() && samples == 0 &&
         !second_moment;
}

const Tensor& SecondMoment::value() const {
  if (maps_.empty()) return moment_;
  // x' = x T, so E[x'^T x'] = T^T E[x^T x] T: all maps on the rows, then on the columns.
  const auto on_rows = [&](Tensor rows) {
    for (const auto& map : maps_) rows = map(rows);
    return rows;
  };
  moment_ = on_rows(on_rows(moment_.to(at::kFloat)).t().contiguous()).to(at::kDouble);
  maps_.clear();
  return moment_;
}

void SecondMoment::carry(std::function<Tensor(const Tensor&)> map) {
  if (defined()) maps_.push_back(std::move(map));
}

bool SiteStatistics::all_zero() const {
  const auto is_zero = [](const Tensor& values) { return values.abs().max().item<double>() == 0; };
  const bool known = channel_abs_max.defined() || samples.defined() || second_moment.defined();
  if (!known || (channel_abs_max.defined() && !is_zero(channel_abs_max))) return false;
  if (samples.defined() && !is_zero(samples)) return false;
  // Last, because to ask for the moment applies the maps that it has been carried through.
  return !second_moment.defined() || is_zero(second_moment.value().diagonal());
}

void SiteStatistics::carry(const std::function<Tensor(const Tensor&)>& map) {
  if (samples.defined()) samples = map(samples);
  second_moment.carry(map);
  abs_max = 0;
  channel_abs_max = Tensor();
  channel_mean_abs = Tensor();
  percentiles.clear();
}

void SiteNeeds::merge(const SiteNeeds& other) {
  abs_max |= other.abs_max;
  samples = std::max(samples, other.samples);
  second_moment |= other.second_moment;
  channel_abs_max |= other.channel_abs_max;
  channel_mean_abs |= other.channel_mean_abs;
  if (!other.percentiles.empty()) mode = other.mode;
  for (const double p : other.percentiles) {
    if (std::find(percentiles.begin(), percentiles.end(), p) == percentiles.end()) percentiles.push_back(p);
  }
}

int64_t values_needed(int64_t n, double p) {
  return n - static_cast<int64_t>(std::floor(rank_of(n, p)));
}

float quantile_from_largest(const std::vector<float>& largest, int64_t n, double p) {
  const double rank = rank_of(n, p);
  const auto below_rank = std::min(static_cast<int64_t>(std::floor(rank)), n - 1);
  const auto above_rank = std::min(static_cast<int64_t>(std::ceil(rank)), n - 1);
  const float below = largest.at(static_cast<size_t>(n - 1 - below_rank));
  const float above = largest.at(static_cast<size_t>(n - 1 - above_rank));
  const auto weight = static_cast<float>(rank - static_cast<double>(below_rank));
  // at::lerp's two branches, so that the bits are torch's.
  return weight < 0.5F ? below + weight * (above - below) : above - (above - below) * (1.0F - weight);
}

std::vector<float> largest_magnitudes(const float* x, int64_t n, int64_t count) {
  // The bits of a non-negative float grow with its value, so their top 12 bits are an ordered bucket number.
  constexpr int kShift = 19;
  constexpr uint32_t kMagnitude = 0x7fffffff;
  std::array<int64_t, 4096> buckets{};
  for (int64_t i = 0; i < n; ++i) ++buckets[(std::bit_cast<uint32_t>(x[i]) & kMagnitude) >> kShift];
  int64_t above = 0;
  size_t bucket = buckets.size();
  while (bucket > 0 && above < count) above += buckets[--bucket];
  const auto threshold = static_cast<uint32_t>(bucket << kShift);
  std::vector<float> largest;
  largest.reserve(static_cast<size_t>(above));
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(x[i]) & kMagnitude;
    if (magnitude >= threshold) largest.push_back(std::bit_cast<float>(magnitude));
  }
  const auto middle = largest.begin() + std::min<int64_t>(count, static_cast<int64_t>(largest.size()));
  std::partial_sort(largest.begin(), middle, largest.end(), std::greater<>());
  largest.erase(middle, largest.end());
  return largest;
}

}  // namespace ptq
