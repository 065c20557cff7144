// Signs of life of the processes of a run, and the first failure among them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ptq/base/clock.h"
#include "ptq/base/error.h"

namespace ptq {

// A failure of the run, as it lies in the store and as all processes throw it.
struct Failure {
  std::string message;
  ExitCode code = ExitCode::kFailed;
  bool may_pass = true;

  // Of process `name`.
  static Failure of(const Error& error, const std::string& name);
  Error error() const;
};

// The store of a run. Not for two threads at a time: a request that waits for its answer holds it.
class RunStore {
 public:
  using Handle = c10::intrusive_ptr<c10d::Store>;

  RunStore(Handle store, int rank) : store_(std::move(store)), rank_(rank) {}

  const Handle& handle() const { return store_; }
  // Under the number of a process.
  void put(const std::string& key, const std::string& text);
  std::optional<std::string> get(const std::string& key, int rank);
  // How often a process has called it.
  int64_t count(const std::string& key) { return store_->add(key + "/" + std::to_string(rank_), 1); }

  void beat() { count("beat"); }
  // How often each of `size` has beaten.
  std::vector<int64_t> beats(int size);

  std::optional<Failure> failure();
  // Returns the first of all that were put.
  Failure put_failure(const Failure& failure);

 private:
  Handle store_;
  int rank_;
};

// A thread that beats and looks at the others, until it is destroyed.
class Watch {
 public:
  // `names` of the processes, for messages. `patience` in seconds, without a beat.
  Watch(RunStore store, std::vector<std::string> names, double patience);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // What the thread has found; from that moment on throw_if_interrupted() throws it too. A process that does
  // not come to throw it within some seconds, or to call noticed(), is ended.
  std::optional<Failure> failure() const;
  // The process knows of its failure, and sees to its end itself.
  void noticed() { noticed_ = true; }
  // Of an exchange that broke off: what the store says about it, or whose signs of life have stopped, or, if
  // neither comes within some seconds, `text`.
  Failure why_broken(const std::string& text) const;

 private:
  void run();
  // One look. Sets failure_.
  void look();
  void found(const Failure& failure);
  // Those that have not beaten for so many seconds.
  std::vector<int> silent_for(double seconds) const;
  Failure gone(const std::vector<int>& ranks) const;

  RunStore store_;
  std::vector<std::string> names_;
  double patience_;
  mutable std::mutex mutex_;  // of all below
  std::condition_variable wakes_;
  std::optional<Failure> failure_;
  bool lost_store_ = false;
  std::vector<int64_t> beats_;
  std::vector<Stopwatch> since_beat_;
  Stopwatch since_look_, since_failure_;
  bool ends_ = false;
  std::atomic<bool> noticed_{false};
  std::thread thread_;
};

}  // namespace ptq
