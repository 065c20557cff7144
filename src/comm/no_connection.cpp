// In place of connection.cpp, where libtorch was built without Gloo.
#include "comm/connection.h"
#include "ptq/comm/processes.h"

namespace ptq {

struct Connection::Parts {};

Connection::Connection(const Launch&, double) {
  throw usage_error("--distributed", "the libtorch that this program was built with has no Gloo",
                    "one process, or a libtorch from pytorch.org");
}
Connection::~Connection() = default;
void Connection::broadcast(std::span<std::byte>, int) {}
void Connection::send(std::span<std::byte>, int) {}
void Connection::receive(std::span<std::byte>, int) {}
int64_t Connection::maximum(int64_t number) {
  return number;
}
void Connection::fail(const Error& cause) {
  throw cause;
}
void Connection::leave() {}

bool exchange_was_abandoned() {
  return false;
}

}  // namespace ptq
