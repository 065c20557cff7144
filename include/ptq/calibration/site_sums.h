// Measuring the sites of a sublayer while calibration windows run through it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ptq/calibration/statistics.h"
#include "ptq/comm/processes.h"
#include "ptq/model/sublayer.h"

namespace ptq {

// The windows of a calibration, in the batches in which they are run (for_each_batch), and with which of them
// those of this process begin.
struct Batches {
  int64_t windows = 0;
  int64_t count = 0;
  int64_t first = 0;

  // Of `windows` windows of `length` tokens.
  static Batches of(int64_t windows, int64_t length);
};

// A sum over batches, the same to the bit for any split of them among those who add: batches belong to lanes,
// contiguous groups whose number does not depend on the split. Each lane is summed by itself and the lanes
// are added in order, in float64.
class LaneSum {
 public:
  static constexpr int64_t kLanes = 8;

  // Of `batches` batches in all, of which this piece begins with number `first`. REQUIRES: that a lane begins
  // there.
  LaneSum(int64_t batches, int64_t first);
  LaneSum(LaneSum&&) = default;
  LaneSum& operator=(LaneSum&&) = default;

  // Adds the next batch: `add(sum)` adds its part to a float64 tensor of `shape`, in place. REQUIRES: the
  // same shape at every call.
  void add(at::IntArrayRef shape, at::TensorOptions options, const std::function<void(Tensor& sum)>& add);
  // The next batch adds nothing: of a sum that nobody asks for, which keeps its place.
  void pass() { ++next_; }
  // Adds a piece that begins where this one ends. REQUIRES: that a lane ends there.
  void merge(const LaneSum& later);
  // The sum of all batches; undefined if none was added.
  Tensor total() const;

  // For another process.
  void pack(Parcel& parcel) const;
  static LaneSum unpack(ParcelReader& parcel);

 private:
  // Whether a batch is of another lane than the one before.
  bool begins_lane(int64_t batch) const;

  int64_t batches_, first_, next_;
  // In order. Lanes from the first of all on are added up as they end: the first sum is then of several.
  std::vector<Tensor> sums_;
};

// What flows through one site, summed up. Pieces of the windows may be summed apart and merged.
class SiteSums {
 public:
  // `name` is for messages. `first_batch`: that this piece begins with.
  SiteSums(std::string name, SiteNeeds needs, const Batches& batches, int64_t first_batch = 0);

  // x [windows, length, channels]: the next batch. Throws Error if a value that is measured is NaN or
  // infinite.
  void add(const Tensor& x);
  // Adds what a piece that begins where this one ends has summed. REQUIRES: the same needs; whole lanes.
  void merge(const SiteSums& later);
  // What was measured so far.
  SiteStatistics finish() const;

  // For another process, which has made the same object.
  Parcel pack() const;
  void unpack(const Parcel& parcel);
  // merge() the other way round: `earlier` is what pack() gave of a piece that ends where this one begins.
  void put_behind(const Parcel& earlier);

 private:
  double finite(double largest) const;
  void add_channels(const Tensor& rows);
  void add_percentiles(const Tensor& x);
  void add_samples(const Tensor& rows);
  void add_sums(const Tensor& rows);
  void keep_largest(const std::vector<float>& more);

  std::string name_;
  SiteNeeds needs_;
  int64_t windows_;  // that will come, of all pieces
  int64_t tokens_ = 0, sampled_tokens_ = 0;
  double abs_max_ = 0;
  Tensor channel_abs_max_;       // [channels]
  LaneSum abs_sum_;              // of |x| [channels]
  LaneSum moment_sum_;           // of x^T x [channels, channels], on and above its diagonal
  std::vector<Tensor> samples_;  // [tokens, channels] of each batch, as many as are asked for
  std::map<double, std::vector<float>> window_percentiles_;  // kMoving: p -> that of each window
  std::vector<float> largest_;  // kExact: the largest |x| so far, as many as the lowest percentile needs
  int64_t values_ = 0, values_of_all_ = 0;  // kExact: how many |x| were seen, and will be
};

// Sums up what `needs` names of a sublayer, on the forwards that it is passed to: one for each batch of this
// process.
class StatisticsObserver : public Observer {
 public:
  // `prefix` of the sublayer, for messages.
  StatisticsObserver(const std::string& prefix, const Needs& needs, const Batches& batches);
  void observe(const Site& site, const Tensor& x) override;
  // Adds up what all processes have seen: each knows all of it then.
  void merge(Processes& processes);
  Statistics finish() const;

 private:
  std::map<std::string, SiteSums> sums_;
};

}  // namespace ptq
