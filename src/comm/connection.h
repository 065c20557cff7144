// How a process is connected to the others of its run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "ptq/base/error.h"
#include "ptq/comm/launch.h"

namespace ptq {

class Connection {
 public:
  // Throws as the constructor of Processes does.
  Connection(const Launch& launch, double patience);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Throw as the functions of Processes do. The bytes must be given with the same size everywhere.
  void broadcast(std::span<std::byte> bytes, int from);
  void send(std::span<std::byte> bytes, int to);
  void receive(std::span<std::byte> bytes, int from);
  // The largest of all numbers.
  int64_t maximum(int64_t number);

  [[noreturn]] void fail(const Error& cause);
  void leave();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace ptq
