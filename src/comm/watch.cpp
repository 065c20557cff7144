#include "comm/watch.h"

#include <algorithm>
#include <cstdio>

#include "ptq/base/interrupt.h"
#include "ptq/base/json.h"

namespace ptq {
namespace {

using namespace std::chrono_literals;

constexpr auto kInterval = 500ms;       // between two looks
constexpr double kSilenceOfDead = 2.5;  // of a process whose connections broke off, in seconds
constexpr double kLongestDoubt = 6;     // about why an exchange broke off
constexpr double kGrace = 10;           // for a process to end itself

std::string text_of(const std::vector<uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}
std::vector<uint8_t> bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

Json to_json(const Failure& failure) {
  return {
      {"message", failure.message}, {"code", static_cast<int>(failure.code)}, {"may_pass", failure.may_pass}};
}

Failure failure_of(const std::string& text) {
  const Json json = parse_json(text, "a failure in the store");
  return {json.at("message").get<std::string>(), static_cast<ExitCode>(json.at("code").get<int>()),
          json.at("may_pass").get<bool>()};
}

}  // namespace

Failure Failure::of(const Error& error, const std::string& name) {
  return {name + ": " + error.what(), error.exit_code(), error.may_pass()};
}

Error Failure::error() const {
  if (code == ExitCode::kFailed && may_pass) return passing_error("", message);
  return {"", message, "", code};
}

void RunStore::put(const std::string& key, const std::string& text) {
  store_->set(key + "/" + std::to_string(rank_), bytes_of(text));
}

std::optional<std::string> RunStore::get(const std::string& key, int rank) {
  const std::string own = key + "/" + std::to_string(rank);
  if (!store_->check({own})) return {};
  return text_of(store_->get(own));
}

std::vector<int64_t> RunStore::beats(int size) {
  std::vector<std::string> keys;
  for (int rank = 0; rank < size; ++rank) keys.push_back("beat/" + std::to_string(rank));
  std::vector<int64_t> all;
  for (const std::vector<uint8_t>& value : store_->multiGet(keys)) all.push_back(std::stoll(text_of(value)));
  return all;
}

std::optional<Failure> RunStore::failure() {
  if (!store_->check({"failure"})) return {};
  return failure_of(text_of(store_->get("failure")));
}

Failure RunStore::put_failure(const Failure& failure) {
  const std::string text = to_json(failure).dump(-1, ' ', false, Json::error_handler_t::replace);
  return failure_of(text_of(store_->compareSet("failure", {}, bytes_of(text))));
}

Watch::Watch(RunStore store, std::vector<std::string> names, double patience)
    : store_(std::move(store)),
      names_(std::move(names)),
      patience_(patience),
      beats_(names_.size(), -1),
      since_beat_(names_.size()),
      thread_([this] { run(); }) {}

Watch::~Watch() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  wakes_.notify_all();
  thread_.join();
}

void Watch::run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    if (!failure_) {
      lock.unlock();
      look();
      lock.lock();
      since_look_.restart();
    } else if (since_failure_.elapsed_seconds() > kGrace && !noticed_) {
      std::fprintf(stderr, "error: %s\n", failure_->message.c_str());
      end_process(failure_->code);
    }
    wakes_.wait_for(lock, kInterval, [this] { return ends_; });
  }
}

void Watch::look() {
  try {
    store_.beat();
    if (const auto failure = store_.failure()) return found(*failure);
    const std::vector<int64_t> beats = store_.beats(static_cast<int>(names_.size()));
    {
      const std::scoped_lock lock(mutex_);
      for (size_t i = 0; i < beats.size(); ++i) {
        if (beats[i] != beats_[i]) since_beat_[i].restart();
      }
      beats_ = beats;
    }
    if (const std::vector<int> silent = silent_for(patience_); !silent.empty())
      found(store_.put_failure(gone(silent)));
  } catch (const std::exception&) {
    // The store is a socket of rank 0, or of the launcher.
    {
      const std::scoped_lock lock(mutex_);
      lost_store_ = true;
    }
    found(gone({0}));
  }
}

void Watch::found(const Failure& failure) {
  {
    const std::scoped_lock lock(mutex_);
    failure_ = failure;
    since_failure_.restart();
  }
  stop_with(failure.error());
}

std::optional<Failure> Watch::failure() const {
  const std::scoped_lock lock(mutex_);
  // A store that takes a request and does not answer holds the thread.
  if (!failure_ && since_look_.elapsed_seconds() > patience_) return gone({0});
  return failure_;
}

std::vector<int> Watch::silent_for(double seconds) const {
  const std::scoped_lock lock(mutex_);
  std::vector<int> silent;
  for (size_t i = 0; i < since_beat_.size(); ++i) {
    if (since_beat_[i].elapsed_seconds() > seconds) silent.push_back(static_cast<int>(i));
  }
  return silent;
}

Failure Watch::gone(const std::vector<int>& ranks) const {
  std::string text;
  for (const int rank : ranks) text += (text.empty() ? "" : ", ") + names_[static_cast<size_t>(rank)];
  return {text +
          ": no sign of life: it was killed, ran out of memory, hangs, or its machine is cut off\n  try: "
          "--resume"};
}

Failure Watch::why_broken(const std::string& text) const {
  const Stopwatch clock;
  while (clock.elapsed_seconds() < kLongestDoubt) {
    if (const auto known = failure()) return *known;
    const std::vector<int> silent = silent_for(kSilenceOfDead);
    if (!silent.empty()) return gone(silent);
    std::this_thread::sleep_for(50ms);
  }
  return {"the connection to another process broke off: " + text};
}

}  // namespace ptq
