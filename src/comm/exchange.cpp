#define USE_C10D_GLOO
#include "comm/exchange.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace ptq {
namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 100ms;      // between two looks of who waits for the courier
constexpr auto kNever = 24h * 30;  // watch.h tells who is gone, not a clock

// The address of this machine from which `host` is reached; empty if it is not.
std::string own_address_towards(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return "";
  std::string address;
  for (const addrinfo* entry = found; entry != nullptr && address.empty(); entry = entry->ai_next) {
    const int fd = ::socket(entry->ai_family, entry->ai_socktype | SOCK_CLOEXEC, entry->ai_protocol);
    if (fd < 0) continue;
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    char text[NI_MAXHOST];
    // Connecting sends nothing: it chooses the way.
    const bool known = ::connect(fd, entry->ai_addr, entry->ai_addrlen) == 0 &&
                       ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                       ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text, nullptr, 0,
                                     NI_NUMERICHOST) == 0;
    if (known) address = text;
    ::close(fd);
  }
  ::freeaddrinfo(found);
  return address;
}

std::shared_ptr<gloo::transport::Device> device_for(const Launch& launch) {
  // Gloo's own choice, the address of the machine's name, is a loopback address on some systems.
  const std::string address = std::getenv("GLOO_SOCKET_IFNAME") == nullptr
                                  ? own_address_towards(launch.address, launch.port)
                                  : std::string();
  return address.empty() ? c10d::ProcessGroupGloo::createDefaultDevice()
                         : c10d::ProcessGroupGloo::createDeviceForHostname(address);
}

}  // namespace

Courier::Courier() : thread_([this] { run(); }) {}

Courier::~Courier() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  wakes_.notify_all();
  thread_.join();
}

void Courier::run() {
  const at::InferenceMode inference;  // as in the thread that the tensors are from
  std::unique_lock lock(mutex_);
  for (;;) {
    wakes_.wait(lock, [this] { return work_ || ends_; });
    if (ends_) return;
    const std::function<void()> work = work_;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      work();
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    thrown_ = thrown;
    work_ = nullptr;
    done_.notify_all();
  }
}

void Courier::perform(std::function<void()> work, const std::function<void()>& look) {
  std::unique_lock lock(mutex_);
  work_ = std::move(work);
  wakes_.notify_all();
  while (!done_.wait_for(lock, kLook, [this] { return !work_; })) {
    lock.unlock();
    look();
    lock.lock();
  }
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

struct Exchange::Group {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
};

Exchange::Exchange(c10::intrusive_ptr<c10d::Store> store, const Launch& launch)
    : group_(std::make_unique<Group>()) {
  const auto options = c10::make_intrusive<c10d::ProcessGroupGloo::Options>(
      std::chrono::duration_cast<std::chrono::milliseconds>(kNever));
  options->threads = 1;
  options->devices = {device_for(launch)};
  group_->gloo =
      c10::make_intrusive<c10d::ProcessGroupGloo>(std::move(store), launch.rank, launch.size, options);
}

Exchange::~Exchange() = default;

void Exchange::broadcast(const at::Tensor& bytes, int from) {
  std::vector<at::Tensor> tensors{bytes};
  c10d::BroadcastOptions options;
  options.rootRank = from;
  group_->gloo->broadcast(tensors, options)->wait();
}

void Exchange::send(const at::Tensor& bytes, int to) {
  std::vector<at::Tensor> tensors{bytes};
  group_->gloo->send(tensors, to, /*tag=*/0)->wait();
}

void Exchange::receive(const at::Tensor& bytes, int from) {
  std::vector<at::Tensor> tensors{bytes};
  group_->gloo->recv(tensors, from, /*tag=*/0)->wait();
}

void Exchange::maximum(const at::Tensor& numbers) {
  std::vector<at::Tensor> tensors{numbers};
  c10d::AllreduceOptions options;
  options.reduceOp = c10d::ReduceOp::MAX;
  group_->gloo->allreduce(tensors, options)->wait();
}

}  // namespace ptq
