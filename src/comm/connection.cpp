#include "comm/connection.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstdlib>
#include <optional>
#include <thread>

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "comm/exchange.h"
#include "comm/watch.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/json.h"
#include "ptq/comm/processes.h"

namespace ptq {
namespace {

using namespace std::chrono_literals;

constexpr size_t kMostBytes = size_t{1} << 28;  // in one message
constexpr int kLogFatal = 3;                    // of libtorch's log
std::atomic<bool> g_abandoned{false};

std::string endpoint(const Launch& launch) {
  return launch.address + ":" + std::to_string(launch.port);
}

c10::intrusive_ptr<c10d::TCPStore> open_store(const Launch& launch, double patience) {
  // What libtorch would say of every attempt to connect, and of connections that break off, is said by
  // Errors.
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = kLogFatal;
  c10d::TCPStoreOptions options;
  options.port = launch.port;
  options.isServer = launch.rank == 0 && !launch.launcher_keeps_store;
  options.waitWorkers = false;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(patience * 1e3));
  try {
    return c10::make_intrusive<c10d::TCPStore>(launch.address, options);
  } catch (const std::exception& error) {
    std::string why = error.what();
    why.resize(std::min(why.size(), why.find('\n')));
    if (options.isServer)
      throw usage_error("MASTER_PORT", "rank 0 cannot listen at " + endpoint(launch) + ": " + why,
                        "another port, and for MASTER_ADDR the machine of rank 0");
    throw usage_error("MASTER_ADDR", "rank 0 was not reached at " + endpoint(launch) + ": " + why,
                      "a longer --distributed-timeout, or look whether rank 0 runs there");
  }
}

RunStore run_store(const c10::intrusive_ptr<c10d::Store>& store, const Launch& launch) {
  const std::string prefix = "quantize/" + launch.generation;
  return {c10::make_intrusive<c10d::PrefixStore>(prefix, store), launch.rank};
}

// "rank 1 of 3 (node7, process 4711)".
std::string own_name(const Launch& launch) {
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, HOST_NAME_MAX);
  return "rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.size) + " (" + host +
         ", process " + std::to_string(::getpid()) + ")";
}

[[noreturn]] void throw_missing(const std::vector<std::string>& names, double patience) {
  std::string missing;
  int64_t there = 0;
  for (size_t rank = 0; rank < names.size(); ++rank) {
    if (names[rank].empty()) missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
    there += names[rank].empty() ? 0 : 1;
  }
  throw usage_error("WORLD_SIZE",
                    std::to_string(there) + " of " + std::to_string(names.size()) +
                        " processes came within " + std::to_string(static_cast<int64_t>(patience)) +
                        " s; missing: rank " + missing,
                    "as many processes as WORLD_SIZE, or a longer --distributed-timeout");
}

// Waits until all are there. Returns their names.
std::vector<std::string> meet(RunStore& store, const Launch& launch, double patience) {
  if (store.count("taken") > 1)
    throw usage_error("RANK", "two processes have the rank " + std::to_string(launch.rank));
  store.put("here", Json{{"name", own_name(launch)}, {"size", launch.size}}.dump());
  store.beat();
  std::vector<std::string> names(static_cast<size_t>(launch.size));
  const Stopwatch clock;
  for (int rank = 0; rank < launch.size;) {
    throw_if_interrupted();
    if (const auto failure = store.failure()) throw failure->error();
    const auto text = store.get("here", rank);
    if (!text) {
      if (clock.elapsed_seconds() > patience) {
        for (int later = rank; later < launch.size; ++later)
          names[static_cast<size_t>(later)] = store.get("here", later).value_or("");
        throw_missing(names, patience);
      }
      std::this_thread::sleep_for(20ms);
      continue;
    }
    const Json there = parse_json(*text, "the store");
    names[static_cast<size_t>(rank)] = there.at("name").get<std::string>();
    if (there.at("size") != launch.size) {
      throw usage_error("WORLD_SIZE", there.at("size").dump() + " for rank " + std::to_string(rank) + ", " +
                                          std::to_string(launch.size) + " for rank " +
                                          std::to_string(launch.rank));
    }
    ++rank;
  }
  return names;
}

}  // namespace

struct Connection::Parts {
  Launch launch;
  double patience = 0;
  c10::intrusive_ptr<c10d::TCPStore> tcp;
  std::unique_ptr<RunStore> store;
  std::unique_ptr<Watch> watch;
  std::unique_ptr<Courier> courier;
  std::unique_ptr<Exchange> exchange;
  std::optional<Failure> broken;  // why an exchange broke off

  bool holds_store() const { return launch.rank == 0 && !launch.launcher_keeps_store; }
  // Who holds the store stays a moment after a failure, so that the others can read it there.
  void linger() const {
    if (holds_store()) std::this_thread::sleep_for(1500ms);
  }

  void look() const {
    if (const auto failure = watch->failure()) throw failure->error();
    throw_if_interrupted();
  }

  // `work` may outlive this call: what it uses must belong to it.
  void perform(std::function<void()> work) {
    try {
      courier->perform(std::move(work), [this] { look(); });
    } catch (const Error&) {
      g_abandoned = true;
      throw;
    } catch (const std::exception& error) {
      g_abandoned = true;
      this->broken = watch->why_broken(error.what());
      throw this->broken->error();
    }
  }

  // The bytes in messages, as tensors that the courier may keep: `one` moves one of them.
  template <typename One>
  void in_messages(std::span<std::byte> bytes, bool gives, bool takes, const One& one) {
    for (size_t begin = 0; begin < bytes.size(); begin += kMostBytes) {
      const std::span<std::byte> part = bytes.subspan(begin, std::min(kMostBytes, bytes.size() - begin));
      const at::Tensor message = at::empty({static_cast<int64_t>(part.size())}, at::kByte);
      if (gives) std::memcpy(message.data_ptr(), part.data(), part.size());
      perform([message, one] { one(message); });
      if (takes) std::memcpy(part.data(), message.data_ptr(), part.size());
    }
  }
};

Connection::Connection(const Launch& launch, double patience) : parts_(std::make_unique<Parts>()) {
  parts_->launch = launch;
  parts_->patience = patience;
  parts_->tcp = open_store(launch, patience);
  parts_->store = std::make_unique<RunStore>(run_store(parts_->tcp, launch));
  std::vector<std::string> names;
  try {
    names = meet(*parts_->store, launch, patience);
  } catch (const Error& error) {
    const Failure first = parts_->store->put_failure(Failure::of(error, own_name(launch)));
    parts_->linger();
    throw first.error();
  } catch (const std::exception&) {
    throw passing_error(endpoint(launch), "rank 0 was there and has gone before all had come");
  }
  // Each of the two threads has a client of its own.
  parts_->watch = std::make_unique<Watch>(run_store(parts_->tcp->clone(), launch), names, patience);
  parts_->courier = std::make_unique<Courier>();
  const auto store = c10::make_intrusive<c10d::PrefixStore>("gloo", parts_->store->handle());
  Parts* const parts = parts_.get();
  parts_->perform([parts, store, launch] { parts->exchange = std::make_unique<Exchange>(store, launch); });
}

Connection::~Connection() {
  if (!g_abandoned) return;
  // The courier may hang in Gloo for ever, and everything it uses has to stay.
  if (parts_->watch) parts_->watch->noticed();
  parts_.release();
}

void Connection::broadcast(std::span<std::byte> bytes, int from) {
  const bool gives = parts_->launch.rank == from;
  Exchange* const exchange = parts_->exchange.get();
  parts_->in_messages(bytes, gives, !gives,
                      [exchange, from](const at::Tensor& message) { exchange->broadcast(message, from); });
}

void Connection::send(std::span<std::byte> bytes, int to) {
  Exchange* const exchange = parts_->exchange.get();
  parts_->in_messages(bytes, true, false,
                      [exchange, to](const at::Tensor& message) { exchange->send(message, to); });
}

void Connection::receive(std::span<std::byte> bytes, int from) {
  Exchange* const exchange = parts_->exchange.get();
  parts_->in_messages(bytes, false, true,
                      [exchange, from](const at::Tensor& message) { exchange->receive(message, from); });
}

int64_t Connection::maximum(int64_t number) {
  const at::Tensor numbers = at::full({1}, number, at::kLong);
  Exchange* const exchange = parts_->exchange.get();
  parts_->perform([exchange, numbers] { exchange->maximum(numbers); });
  return *numbers.const_data_ptr<int64_t>();
}

void Connection::fail(const Error& cause) {
  parts_->watch->noticed();
  g_abandoned = true;  // others may be in an exchange that this process will not come to
  if (const auto known = parts_->watch->failure()) {
    parts_->linger();
    throw known->error();
  }
  const Failure own = parts_->broken.value_or(Failure::of(cause, own_name(parts_->launch)));
  Failure first = own;
  try {
    first = parts_->store->put_failure(own);
  } catch (const std::exception&) {
    // Rank 0 has gone, and the store with it: the cause is known here only.
  }
  parts_->linger();
  throw first.error();
}

void Connection::leave() {
  maximum(0);
  parts_->watch.reset();
  try {
    parts_->store->put("left", "");
    const Stopwatch clock;
    for (int rank = 0; parts_->holds_store() && rank < parts_->launch.size;) {
      if (parts_->store->get("left", rank) || clock.elapsed_seconds() > parts_->patience) {
        ++rank;
      } else {
        std::this_thread::sleep_for(5ms);
      }
    }
  } catch (const std::exception&) {
    // All is done, and who holds the store has gone already.
  }
}

bool exchange_was_abandoned() {
  return g_abandoned;
}

}  // namespace ptq
