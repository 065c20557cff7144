#include "ptq/calibration/statistics.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "ptq/base/error.h"
#include "ptq/ops/ops.h"

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

SiteObserver::SiteObserver(std::string name, SiteNeeds needs, int64_t num_samples)
    : name_(std::move(name)), needs_(std::move(needs)), num_samples_(num_samples) {}

// A maximum of what was measured; NaN stays in one.
double SiteObserver::finite(double largest) const {
  if (std::isfinite(largest)) return largest;
  throw Error(
      name_, "activations are NaN or infinite in the float model",
      "check the calibration text and the checkpoint; values past 65504 overflow models stored in F16");
}

void SiteObserver::observe(const Tensor& x) {
  if (needs_.channel_abs_max) observe_channels(x);
  if (needs_.abs_max || needs_.channel_abs_max || !needs_.percentiles.empty()) {
    const Tensor maxima = needs_.channel_abs_max ? result_.channel_abs_max : ops::abs_max_rows(x);
    result_.abs_max = std::max(result_.abs_max, finite(maxima.max().item<double>()));
  }
  if (!needs_.percentiles.empty()) observe_percentiles(x);
  tokens_ += x.numel() / x.size(-1);
  if (needs_.channel_mean_abs) {
    const Tensor sum = x.abs().flatten(0, -2).sum(0, /*keepdim=*/false, at::kDouble);
    finite(sum.max().item<double>());
    result_.channel_mean_abs = result_.channel_mean_abs.defined() ? result_.channel_mean_abs.add_(sum) : sum;
  }
  if (needs_.samples > 0 || needs_.second_moment) observe_samples(x);
}

void SiteObserver::observe_channels(const Tensor& x) {
  constexpr int64_t kRows = 64;  // whose magnitudes stay in the second-level cache
  const Tensor rows = x.flatten(0, -2);
  for (const Tensor& part : rows.split(kRows)) {
    const Tensor channels = part.abs().amax(0);
    Tensor& largest = result_.channel_abs_max;
    largest = largest.defined() ? at::maximum(largest, channels) : channels;
  }
}

void SiteObserver::observe_samples(const Tensor& x) {
  const Tensor rows = x.flatten(0, -2);  // [tokens, channels]
  const int64_t wanted = std::min(needs_.samples - sampled_tokens_, rows.size(0));
  if (wanted > 0) {
    samples_.push_back(rows.slice(0, 0, wanted).clone());
    finite(samples_.back().abs().max().item<double>());
    sampled_tokens_ += wanted;
  }
  if (!needs_.second_moment) return;
  // float32 within a batch, float64 between them.
  if (!moment_sum_.defined())
    moment_sum_ = at::zeros({rows.size(1), rows.size(1)}, rows.options().dtype(at::kDouble));
  ops::add_gram(moment_sum_, rows);
  finite(moment_sum_.diagonal().max().item<double>());
}

void SiteObserver::observe_percentiles(const Tensor& x) {
  const Tensor samples = x.cpu().contiguous();
  const int64_t n = samples.numel() / samples.size(0);
  const double lowest = *std::min_element(needs_.percentiles.begin(), needs_.percentiles.end());
  const bool exact = needs_.mode == PercentileMode::kExact;
  const int64_t count =
      std::min(n, exact ? values_needed(n * num_samples_, lowest) : values_needed(n, lowest));
  std::vector<std::vector<float>> largest(static_cast<size_t>(samples.size(0)));
  at::parallel_for(0, samples.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      largest[static_cast<size_t>(i)] = largest_magnitudes(samples.const_data_ptr<float>() + i * n, n, count);
    }
  });
  for (const std::vector<float>& sample : largest) {  // in order: the moving percentile depends on it
    if (exact) {
      keep_largest(sample, n);
      continue;
    }
    for (const double p : needs_.percentiles) {
      const float c = quantile_from_largest(sample, n, p);
      const auto [entry, first] = result_.percentiles.try_emplace(p, c);
      if (!first) {
        const auto value = static_cast<float>(entry->second);
        entry->second = value + 0.01F * (c - value);
      }
    }
  }
}

void SiteObserver::keep_largest(const std::vector<float>& sample, int64_t values_per_sample) {
  const double lowest = *std::min_element(needs_.percentiles.begin(), needs_.percentiles.end());
  const auto capacity = static_cast<size_t>(values_needed(values_per_sample * num_samples_, lowest));
  std::vector<float> merged(largest_.size() + sample.size());
  std::merge(largest_.begin(), largest_.end(), sample.begin(), sample.end(), merged.begin(),
             std::greater<>());
  if (merged.size() > capacity) merged.resize(capacity);
  largest_ = std::move(merged);
  values_ += values_per_sample;
}

SiteStatistics SiteObserver::statistics() const {
  SiteStatistics result = result_;
  if (!samples_.empty()) result.samples = at::cat(samples_);
  result.tokens = tokens_;
  if (result_.channel_mean_abs.defined()) result.channel_mean_abs = result_.channel_mean_abs / tokens_;
  if (moment_sum_.defined()) {
    const Tensor moment = moment_sum_ / tokens_;
    ops::mirror_upper(moment);
    result.second_moment = SecondMoment(moment);
  }
  if (needs_.mode == PercentileMode::kExact && values_ > 0) {
    for (const double p : needs_.percentiles)
      result.percentiles[p] = quantile_from_largest(largest_, values_, p);
  }
  return result;
}

ObserverGuard::ObserverGuard(Block& block, const Needs& needs, int64_t num_samples) : block_(block) {
  for (const auto& [site, site_needs] : needs) {
    auto observer = std::make_unique<SiteObserver>(block.prefix() + "." + site, site_needs, num_samples);
    block.site(site).observer = observer.get();
    observers_[site] = std::move(observer);
  }
}

ObserverGuard::~ObserverGuard() {
  for (const auto& [site, observer] : observers_) block_.site(site).observer = nullptr;
}

Statistics ObserverGuard::statistics() const {
  Statistics all;
  for (const auto& [site, observer] : observers_) all[site] = observer->statistics();
  return all;
}

}  // namespace ptq
