#include "ptq/calibration/site_sums.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "calibration/add_up.h"
#include "ptq/base/error.h"
#include "ptq/calibration/stream.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

double lowest_of(const std::vector<double>& percentiles) {
  return *std::min_element(percentiles.begin(), percentiles.end());
}

}  // namespace

Batches Batches::of(int64_t windows, int64_t length) {
  const int64_t each = windows_per_batch(length);
  return {windows, (windows + each - 1) / each};
}

LaneSum::LaneSum(int64_t batches, int64_t first) : batches_(batches), first_(first), next_(first) {
  TORCH_CHECK(begins_lane(first), "a piece of the sum begins with batch ", first, ", within a lane");
}

bool LaneSum::begins_lane(int64_t batch) const {
  const auto lane_of = [this](int64_t b) { return b * kLanes / batches_; };
  return batch == 0 || lane_of(batch) != lane_of(batch - 1);
}

void LaneSum::add(at::IntArrayRef shape, at::TensorOptions options,
                  const std::function<void(Tensor& sum)>& add) {
  const bool begins = begins_lane(next_), ends = begins_lane(next_ + 1);
  const bool folds = first_ == 0 && next_ > 0;
  // What is a lane by itself, behind lanes that are added up, needs no sum of its own.
  if (begins && !(folds && ends)) sums_.push_back(at::zeros(shape, options.dtype(at::kDouble)));
  add(sums_.back());
  ++next_;
  if (!ends || !folds || sums_.size() == 1) return;
  sums_.front().add_(sums_.back());
  sums_.pop_back();
}

void LaneSum::merge(const LaneSum& later) {
  TORCH_CHECK(later.first_ == next_ && begins_lane(next_), "a piece of the sum that begins with batch ",
              later.first_, " does not follow one that ends before ", next_, ", or cuts a lane");
  for (const Tensor& sum : later.sums_) {
    if (first_ == 0 && !sums_.empty()) {
      sums_.front().add_(sum);
    } else {
      sums_.push_back(sum.clone());
    }
  }
  next_ = later.next_;
}

Tensor LaneSum::total() const {
  Tensor total;
  for (const Tensor& sum : sums_) total = total.defined() ? total + sum : sum;
  return total;
}

void LaneSum::pack(Parcel& parcel) const {
  parcel.add(std::vector<int64_t>{batches_, first_, next_, static_cast<int64_t>(sums_.size())});
  for (const Tensor& sum : sums_) parcel.add(sum);
}

LaneSum LaneSum::unpack(ParcelReader& parcel) {
  const std::vector<int64_t> numbers = parcel.integers();
  LaneSum sum(numbers.at(0), numbers.at(1));
  sum.next_ = numbers.at(2);
  for (int64_t i = 0; i < numbers.at(3); ++i) sum.sums_.push_back(parcel.tensor());
  return sum;
}

SiteSums::SiteSums(std::string name, SiteNeeds needs, const Batches& batches, int64_t first_batch)
    : name_(std::move(name)),
      needs_(std::move(needs)),
      windows_(batches.windows),
      abs_sum_(batches.count, first_batch),
      moment_sum_(batches.count, first_batch) {}

// A maximum of what was measured; NaN stays in one.
double SiteSums::finite(double largest) const {
  if (std::isfinite(largest)) return largest;
  throw Error(
      name_, "activations are NaN or infinite in the float model",
      "check the calibration text and the checkpoint; values past 65504 overflow models stored in F16");
}

void SiteSums::add(const Tensor& x) {
  const Tensor rows = x.flatten(0, -2);  // [tokens, channels]
  if (needs_.channel_abs_max) add_channels(rows);
  if (needs_.abs_max || needs_.channel_abs_max || !needs_.percentiles.empty()) {
    const Tensor maxima = needs_.channel_abs_max ? channel_abs_max_ : ops::abs_max_rows(x);
    abs_max_ = std::max(abs_max_, finite(maxima.max().item<double>()));
  }
  if (!needs_.percentiles.empty()) add_percentiles(x);
  tokens_ += rows.size(0);
  add_sums(rows);
  if (needs_.samples > 0) add_samples(rows);
}

void SiteSums::add_sums(const Tensor& rows) {
  if (needs_.channel_mean_abs) {
    const Tensor sum = rows.abs().sum(0, /*keepdim=*/false, at::kDouble);
    finite(sum.max().item<double>());
    abs_sum_.add(sum.sizes(), sum.options(), [&](Tensor& all) { all.add_(sum); });
  } else {
    abs_sum_.pass();
  }
  if (!needs_.second_moment) {
    moment_sum_.pass();
    return;
  }
  // float32 within a batch, float64 between them.
  moment_sum_.add({rows.size(1), rows.size(1)}, rows.options(), [&](Tensor& all) {
    ops::add_gram(all, rows);
    finite(all.diagonal().max().item<double>());
  });
}

void SiteSums::add_channels(const Tensor& rows) {
  constexpr int64_t kRows = 64;  // whose magnitudes stay in the second-level cache
  for (const Tensor& part : rows.split(kRows)) {
    const Tensor channels = part.abs().amax(0);
    channel_abs_max_ = channel_abs_max_.defined() ? at::maximum(channel_abs_max_, channels) : channels;
  }
}

void SiteSums::add_samples(const Tensor& rows) {
  const int64_t wanted = std::min(needs_.samples - sampled_tokens_, rows.size(0));
  if (wanted <= 0) return;
  samples_.push_back(rows.slice(0, 0, wanted).clone());
  finite(samples_.back().abs().max().item<double>());
  sampled_tokens_ += wanted;
}

void SiteSums::add_percentiles(const Tensor& x) {
  const Tensor windows = x.cpu().contiguous();
  const int64_t n = windows.numel() / windows.size(0);
  const double lowest = lowest_of(needs_.percentiles);
  const bool exact = needs_.mode == PercentileMode::kExact;
  values_of_all_ = n * windows_;
  const int64_t count = std::min(n, values_needed(exact ? values_of_all_ : n, lowest));
  std::vector<std::vector<float>> largest(static_cast<size_t>(windows.size(0)));
  at::parallel_for(0, windows.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      largest[static_cast<size_t>(i)] = largest_magnitudes(windows.const_data_ptr<float>() + i * n, n, count);
    }
  });
  for (const std::vector<float>& window : largest) {
    if (exact) {
      values_ += n;
      keep_largest(window);
      continue;
    }
    for (const double p : needs_.percentiles)
      window_percentiles_[p].push_back(quantile_from_largest(window, n, p));
  }
}

void SiteSums::keep_largest(const std::vector<float>& more) {
  const auto capacity = static_cast<size_t>(values_needed(values_of_all_, lowest_of(needs_.percentiles)));
  std::vector<float> merged(largest_.size() + more.size());
  std::merge(largest_.begin(), largest_.end(), more.begin(), more.end(), merged.begin(), std::greater<>());
  if (merged.size() > capacity) merged.resize(capacity);
  largest_ = std::move(merged);
}

void SiteSums::merge(const SiteSums& later) {
  abs_sum_.merge(later.abs_sum_);
  moment_sum_.merge(later.moment_sum_);
  abs_max_ = std::max(abs_max_, later.abs_max_);
  if (later.channel_abs_max_.defined()) {
    channel_abs_max_ = channel_abs_max_.defined() ? at::maximum(channel_abs_max_, later.channel_abs_max_)
                                                  : later.channel_abs_max_;
  }
  tokens_ += later.tokens_;
  for (const Tensor& rows : later.samples_) add_samples(rows);
  for (const auto& [p, values] : later.window_percentiles_) {
    std::vector<float>& all = window_percentiles_[p];
    all.insert(all.end(), values.begin(), values.end());
  }
  if (later.values_ == 0) return;
  values_ += later.values_;
  values_of_all_ = later.values_of_all_;
  keep_largest(later.largest_);
}

Parcel SiteSums::pack() const {
  Parcel parcel;
  parcel.add(std::vector<int64_t>{tokens_, sampled_tokens_, values_, values_of_all_,
                                  static_cast<int64_t>(samples_.size()),
                                  static_cast<int64_t>(window_percentiles_.size())});
  parcel.add(std::vector<double>{abs_max_});
  parcel.add(channel_abs_max_);
  abs_sum_.pack(parcel);
  moment_sum_.pack(parcel);
  for (const Tensor& rows : samples_) parcel.add(rows);
  for (const auto& [p, values] : window_percentiles_) {
    parcel.add(std::vector<double>{p});
    parcel.add(values);
  }
  parcel.add(largest_);
  return parcel;
}

void SiteSums::unpack(const Parcel& parcel) {
  ParcelReader reader(parcel);
  const std::vector<int64_t> numbers = reader.integers();
  tokens_ = numbers.at(0);
  sampled_tokens_ = numbers.at(1);
  values_ = numbers.at(2);
  values_of_all_ = numbers.at(3);
  abs_max_ = reader.doubles().at(0);
  channel_abs_max_ = reader.tensor();
  abs_sum_ = LaneSum::unpack(reader);
  moment_sum_ = LaneSum::unpack(reader);
  samples_.clear();
  for (int64_t i = 0; i < numbers.at(4); ++i) samples_.push_back(reader.tensor());
  window_percentiles_.clear();
  for (int64_t i = 0; i < numbers.at(5); ++i) {
    const double p = reader.doubles().at(0);
    window_percentiles_[p] = reader.floats();
  }
  largest_ = reader.floats();
}

void SiteSums::put_behind(const Parcel& earlier) {
  SiteSums sums(name_, needs_, {windows_, 1});
  sums.unpack(earlier);
  sums.merge(*this);
  *this = std::move(sums);
}

SiteStatistics SiteSums::finish() const {
  SiteStatistics result;
  result.abs_max = abs_max_;
  result.channel_abs_max = channel_abs_max_;
  if (!samples_.empty()) result.samples = at::cat(samples_);
  result.tokens = tokens_;
  if (needs_.channel_mean_abs && tokens_ > 0) result.channel_mean_abs = abs_sum_.total() / tokens_;
  if (needs_.second_moment && tokens_ > 0) {
    const Tensor moment = moment_sum_.total() / tokens_;
    ops::mirror_upper(moment);
    result.second_moment = SecondMoment(moment);
  }
  for (const auto& [p, values] : window_percentiles_) {  // in order: the moving percentile depends on it
    float moving = values.front();
    for (size_t i = 1; i < values.size(); ++i) moving += 0.01F * (values[i] - moving);
    result.percentiles[p] = moving;
  }
  if (needs_.mode == PercentileMode::kExact && values_ > 0) {
    for (const double p : needs_.percentiles)
      result.percentiles[p] = quantile_from_largest(largest_, values_, p);
  }
  return result;
}

StatisticsObserver::StatisticsObserver(const std::string& prefix, const Needs& needs,
                                       const Batches& batches) {
  for (const auto& [site, site_needs] : needs)
    sums_.emplace(site, SiteSums(prefix + "." + site, site_needs, batches, batches.first));
}

void StatisticsObserver::observe(const Site& site, const Tensor& x) {
  if (const auto found = sums_.find(site.name); found != sums_.end()) found->second.add(x);
}

void StatisticsObserver::merge(Processes& processes) {
  add_up(processes, sums_);
}

Statistics StatisticsObserver::finish() const {
  Statistics all;
  for (const auto& [site, sums] : sums_) all[site] = sums.finish();
  return all;
}

}  // namespace ptq
