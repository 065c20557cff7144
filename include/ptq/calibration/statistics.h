// What is known of a site's activations, and what steps ask for.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ptq/model/model.h"

namespace ptq {

// How the percentile of many windows is made from theirs.
enum class PercentileMode {
  kMoving,  // the authors': the first window's sets the value, each further one moves it by a hundredth of
            // the difference
  kExact,   // the percentile over all values of all windows together
};

// What a step asks for at one site. Requests of several steps are merged.
struct SiteNeeds {
  bool abs_max = false;
  bool channel_abs_max = false;
  bool channel_mean_abs = false;
  std::vector<double> percentiles;  // each in (0, 1]
  PercentileMode mode = PercentileMode::kMoving;
  // These two follow the site through rewrites (carry() below), so they are gathered once, before any.
  int64_t samples = 0;         // values of so many tokens, the first ones
  bool second_moment = false;  // over all windows

  void merge(const SiteNeeds& other);
  // Only what is gathered before the rewrites, or only what is not.
  SiteNeeds carried() const;
  SiteNeeds direct() const;
  bool empty() const;
};

using Needs = std::map<std::string, SiteNeeds>;  // by site name

// E[x^T x] of a site. Rewrites turn x into x T one after the other; their maps are kept and applied together
// when the moment is next asked for, because each alone would pass over the whole matrix several times.
class SecondMoment {
 public:
  SecondMoment() = default;
  explicit SecondMoment(Tensor moment) : moment_(std::move(moment)) {}

  bool defined() const { return moment_.defined(); }
  // [channels, channels] float64. Not for several threads at a time.
  const Tensor& value() const;
  // From here on that of map(x), a linear map of each row of [n, channels]; it is called later.
  void carry(std::function<Tensor(const Tensor& rows)> map);

 private:
  mutable Tensor moment_;
  mutable std::vector<std::function<Tensor(const Tensor&)>> maps_;  // not applied yet
};

struct SiteStatistics {
  double abs_max = 0;                    // largest |x|
  Tensor channel_abs_max;                // [channels], if asked for
  Tensor channel_mean_abs;               // [channels] float64, the mean over tokens, if asked for
  std::map<double, double> percentiles;  // p -> value of |x|, if asked for
  Tensor samples;                        // [tokens, channels], if asked for
  SecondMoment second_moment;            // the mean of x^T x over tokens, if asked for
  int64_t tokens = 0;                    // that the means were taken over

  // True if a second moment, samples or maxima of channels are known and all of them are 0: nothing can be
  // chosen by such activations.
  bool all_zero() const;

  // What is known of the site once its values x have become map(x), a linear map of each token's channels:
  // samples and the second moment follow, maxima are forgotten.
  void carry(const std::function<Tensor(const Tensor& rows)>& map);
};

using Statistics = std::map<std::string, SiteStatistics>;

// The p-quantile of |x| over the n values, linearly interpolated, as torch.quantile computes it: the rank p
// (n - 1) and the interpolation are float32. `largest` holds at least the values from that rank up, in
// descending order.
float quantile_from_largest(const std::vector<float>& largest, int64_t n, double p);

// The `count` largest |x| of n values in descending order. One counting pass over the bits of the floats and
// one gathering pass: about a ninth of the time of a sort, and the same bits.
std::vector<float> largest_magnitudes(const float* x, int64_t n, int64_t count);

// How many of the largest of n values the p-quantile depends on.
int64_t values_needed(int64_t n, double p);

}  // namespace ptq
