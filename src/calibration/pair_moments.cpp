#include "ptq/calibration/pair_moments.h"

#include <algorithm>

#include "calibration/add_up.h"
#include "ptq/base/error.h"
#include "ptq/calibration/site_sums.h"
#include "ptq/calibration/stream.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// What the observer throws when it has seen all that is asked for: what is left of the forward is not needed.
struct SeenAll {};

class SiteRecorder : public Observer {
 public:
  explicit SiteRecorder(const std::vector<std::string>& sites) : sites_(sites) {}

  void observe(const Site& site, const Tensor& x) override {
    if (std::ranges::find(sites_, site.name) == sites_.end()) return;
    values[site.name] = x.flatten(0, -2);
    if (values.size() == sites_.size()) throw SeenAll{};
  }
  std::map<std::string, Tensor> values;  // [tokens, channels]

 private:
  const std::vector<std::string>& sites_;
};

std::map<std::string, Tensor> values_at(const Sublayer& sublayer, const Tensor& x,
                                        const std::vector<std::string>& sites) {
  SiteRecorder recorder(sites);
  try {
    sublayer.forward(x, nullptr, &recorder);
  } catch (const SeenAll&) {
    return std::move(recorder.values);
  }
  return std::move(recorder.values);
}

// The sums of one site.
class PairSums {
 public:
  PairSums(int64_t batches, int64_t first) : moment_(batches, first), shift_(batches, first) {}

  // x, rounded [tokens, channels]; x undefined: no shift.
  void add(const Tensor& x, const Tensor& rounded) {
    tokens_ += rounded.size(0);
    const int64_t n = rounded.size(1);
    moment_.add({n, n}, rounded.options(), [&](Tensor& sum) { ops::add_gram(sum, rounded); });
    if (!x.defined()) return shift_.pass();
    shift_.add({n, n}, rounded.options(), [&](Tensor& sum) { ops::add_cross(sum, x - rounded, rounded); });
  }
  Parcel pack() const {
    Parcel parcel;
    parcel.add(std::vector<int64_t>{tokens_});
    moment_.pack(parcel);
    shift_.pack(parcel);
    return parcel;
  }
  void unpack(const Parcel& parcel) {
    ParcelReader reader(parcel);
    tokens_ = reader.integers().at(0);
    moment_ = LaneSum::unpack(reader);
    shift_ = LaneSum::unpack(reader);
  }
  void put_behind(const Parcel& earlier) {
    PairSums sums(1, 0);
    sums.unpack(earlier);
    sums.tokens_ += tokens_;
    sums.moment_.merge(moment_);
    sums.shift_.merge(shift_);
    *this = std::move(sums);
  }
  PairMoments finish(const std::string& where) const {
    const auto mean = [&](const LaneSum& sum) {
      const Tensor total = sum.total();
      return total.defined() ? total / static_cast<double>(tokens_) : Tensor();
    };
    PairMoments moments{mean(moment_), mean(shift_)};
    ops::mirror_upper(moments.moment);
    if (!at::isfinite(moments.moment.diagonal()).all().item<bool>())
      throw Error(where, "activations of the rounded model are NaN or infinite");
    return moments;
  }

 private:
  LaneSum moment_, shift_;
  int64_t tokens_ = 0;
};

}  // namespace

std::map<std::string, PairMoments> pair_moments(const Sublayer& floats, const Tensor& x, Sublayer& rounded,
                                                const Tensor& x_rounded,
                                                const std::vector<std::string>& sites, const Batches& batches,
                                                Processes& processes) {
  std::map<std::string, PairSums> sums;
  for (const std::string& site : sites) sums.emplace(site, PairSums(batches.count, batches.first));
  for_each_batch(x.size(0), x.size(1), [&](int64_t begin, int64_t end) {
    const auto expected = values_at(floats, x.slice(0, begin, end), sites);
    const auto seen = values_at(rounded, x_rounded.slice(0, begin, end), sites);
    for (const std::string& name : sites) {
      const Site& site = rounded.site(name);
      sums.at(name).add(site.routed ? Tensor() : expected.at(name), site.quantizer.rounded(seen.at(name)));
    }
  });
  add_up(processes, sums);
  std::map<std::string, PairMoments> moments;
  for (const auto& [name, sum] : sums) moments[name] = sum.finish(rounded.prefix + "." + name);
  return moments;
}

}  // namespace ptq
