// Which windows of a run each of its processes has, and the ways of hidden states between them.
//
// Windows that are calibrated on belong to lanes (LaneSum), whose number does not depend on that of
// processes: each process has some of them, in the order of ranks, so that every sum over windows is made
// in one order. What is held out is the first's, who measures. Windows that serve for both are all its
// own.
#pragma once

#include <string>

#include "pipeline/block_pass.h"
#include "pipeline/calibrate.h"
#include "ptq/comm/processes.h"

namespace ptq {

class WindowShare {
 public:
  // Of the process `rank` of `size`, of `windows` windows of `length` tokens.
  WindowShare(const WindowSplit& all, int64_t windows, int64_t length, int rank, int size);

  // Of its own windows.
  WindowSplit split() const;
  // Those calibrated on, of all processes, in batches.
  Batches batches() const;
  // Lanes of which it has windows, at most.
  int64_t lanes() const { return lanes_; }
  // Its windows of a tensor of all windows.
  Tensor of(const Tensor& all) const;
  // Those of them that are calibrated on: a view.
  Tensor calibrated_of(const Tensor& all) const { return all.slice(0, begin_, end_); }

 private:
  WindowSplit all_;
  int64_t length_;
  int64_t begin_, end_;  // of the windows calibrated on
  int64_t lanes_ = LaneSum::kLanes;
  bool is_first_;
  bool has_all_ = true;
};

// The windows of the first process become known to all: ids, split, and how many blocks are finished.
void tell_windows(CalibrationWindows& windows, int64_t& finished, Processes& processes);

// The first has the hidden states of all windows, or of all those calibrated on; each gets its own.
void scatter(Stream& states, const CalibrationWindows& windows, int64_t d_model, Processes& processes);
void scatter_calibrated(Stream& states, const CalibrationWindows& windows, int64_t d_model,
                        Processes& processes);

// Writes the hidden states of all windows to the file `path`, as Stream::save() would if they were in one
// place, and returns their SHA-256: on the first process. The others send theirs meanwhile.
std::string save_all(Stream& states, const std::string& path, Processes& processes);
void send_to_first(const Stream& states, Processes& processes);

// Throws Error on a process whose program, model, recipe or kind of processor differs from the first's: its
// numbers would be others.
void expect_same_run(const Report& report, const std::string& device, uint64_t seed, Processes& processes);

}  // namespace ptq
