// Moving bytes between the processes of a run, by libtorch's Gloo.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ptq/comm/launch.h"

namespace ptq {

// A thread that does one piece of work after another, so that whoever waits for it can look around meanwhile.
class Courier {
 public:
  Courier();
  ~Courier();
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  // Returns when `work` is done, and throws what it threw. `look` is called now and then, and may throw: then
  // the work is given up halfway, and the courier must not be used or destroyed again.
  void perform(std::function<void()> work, const std::function<void()>& look);

 private:
  void run();

  std::mutex mutex_;  // of all below
  std::condition_variable wakes_, done_;
  std::function<void()> work_;
  std::exception_ptr thrown_;
  bool ends_ = false;
  std::thread thread_;
};

// The collectives that a run needs. Each blocks until it is done, and throws std::exception if a connection
// breaks off.
class Exchange {
 public:
  Exchange(c10::intrusive_ptr<c10d::Store> store, const Launch& launch);
  ~Exchange();

  void broadcast(const at::Tensor& bytes, int from);
  void send(const at::Tensor& bytes, int to);
  void receive(const at::Tensor& bytes, int from);
  void maximum(const at::Tensor& numbers);

 private:
  struct Group;
  std::unique_ptr<Group> group_;
};

}  // namespace ptq
