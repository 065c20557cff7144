// How long each stage of a run takes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ptq/base/clock.h"

namespace ptq {

// Sums of times by stage, in the order the stages first began.
class StageTimes {
 public:
  void add(const std::string& stage, double elapsed_ms) {
    for (auto& [name, total_ms] : totals_) {
      if (name == stage) {
        total_ms += elapsed_ms;
        return;
      }
    }
    totals_.emplace_back(stage, elapsed_ms);
  }
  const std::vector<std::pair<std::string, double>>& totals_ms() const { return totals_; }

 private:
  std::vector<std::pair<std::string, double>> totals_;
};

// Adds the time of its life to a stage.
class StageTimer {
 public:
  StageTimer(StageTimes& times, std::string stage) : times_(times), stage_(std::move(stage)) {}
  ~StageTimer() { times_.add(stage_, clock_.elapsed_ms()); }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  StageTimes& times_;
  std::string stage_;
  Stopwatch clock_;
};

}  // namespace ptq
