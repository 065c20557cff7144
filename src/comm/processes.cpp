#include "ptq/comm/processes.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "comm/connection.h"

namespace ptq {
namespace {

constexpr int64_t kUndefined = -1;  // in place of a dtype

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}
std::span<std::byte> bytes_of(std::string& text) {
  return std::as_writable_bytes(std::span(text));
}
std::span<std::byte> bytes_of(std::vector<int64_t>& numbers) {
  return std::as_writable_bytes(std::span(numbers));
}

// Dtype, dimensions and sizes of each tensor.
std::vector<int64_t> describe(const std::vector<at::Tensor>& tensors) {
  std::vector<int64_t> all;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) {
      all.push_back(kUndefined);
      continue;
    }
    all.push_back(static_cast<int64_t>(tensor.scalar_type()));
    all.push_back(tensor.dim());
    all.insert(all.end(), tensor.sizes().begin(), tensor.sizes().end());
  }
  return all;
}

std::vector<at::Tensor> empty_tensors(const std::vector<int64_t>& description) {
  std::vector<at::Tensor> tensors;
  for (size_t i = 0; i < description.size();) {
    const int64_t type = description[i++];
    if (type == kUndefined) {
      tensors.emplace_back();
      continue;
    }
    const int64_t dimensions = description[i++];
    const at::IntArrayRef sizes(description.data() + i, static_cast<size_t>(dimensions));
    tensors.push_back(at::empty(sizes, static_cast<at::ScalarType>(type)));
    i += static_cast<size_t>(dimensions);
  }
  return tensors;
}

std::vector<at::Tensor> contiguous(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& tensor : tensors)
    all.push_back(tensor.defined() ? tensor.cpu().contiguous() : at::Tensor());
  return all;
}

// A parcel goes as its sizes, what is in it, the text, and the tensors. `move` sends or receives bytes.
template <typename Move>
void give(const Parcel& parcel, const Move& move) {
  const std::vector<at::Tensor> tensors = contiguous(parcel.tensors);
  std::vector<int64_t> description = describe(tensors);
  std::vector<int64_t> sizes = {static_cast<int64_t>(description.size()),
                                static_cast<int64_t>(parcel.text.size())};
  std::string text = parcel.text;
  move(bytes_of(sizes));
  move(bytes_of(description));
  move(bytes_of(text));
  for (const at::Tensor& tensor : tensors) {
    if (tensor.defined()) move(bytes_of(tensor));
  }
}

template <typename Move>
Parcel get(const Move& move) {
  std::vector<int64_t> sizes(2);
  move(bytes_of(sizes));
  std::vector<int64_t> description(static_cast<size_t>(sizes[0]));
  Parcel parcel;
  parcel.text.resize(static_cast<size_t>(sizes[1]));
  move(bytes_of(description));
  move(bytes_of(parcel.text));
  parcel.tensors = empty_tensors(description);
  for (const at::Tensor& tensor : parcel.tensors) {
    if (tensor.defined()) move(bytes_of(tensor));
  }
  return parcel;
}

}  // namespace

Processes::Processes() = default;
Processes::Processes(const Launch& launch, double patience) : rank_(launch.rank), size_(launch.size) {
  if (size_ > 1) connection_ = std::make_unique<Connection>(launch, patience);
}
Processes::~Processes() = default;

void Processes::broadcast(Parcel& parcel, int from) {
  if (is_alone()) return;
  const auto move = [&](std::span<std::byte> bytes) { connection_->broadcast(bytes, from); };
  if (rank_ == from) {
    give(parcel, move);
  } else {
    parcel = get(move);
  }
}

void Processes::send(const Parcel& parcel, int to) {
  TORCH_CHECK(to != rank_ && to >= 0 && to < size_, "process ", rank_, " of ", size_, " sends to ", to);
  give(parcel, [&](std::span<std::byte> bytes) { connection_->send(bytes, to); });
}

Parcel Processes::receive(int from) {
  TORCH_CHECK(from != rank_ && from >= 0 && from < size_, "process ", rank_, " of ", size_, " receives from ",
              from);
  return get([&](std::span<std::byte> bytes) { connection_->receive(bytes, from); });
}

bool Processes::any(bool mine) {
  return is_alone() ? mine : connection_->maximum(mine ? 1 : 0) > 0;
}

void Processes::share(const std::vector<double>& costs, const std::function<Parcel(size_t)>& solve,
                      const std::function<void(size_t, const Parcel&)>& take) {
  const std::vector<int> owners = owners_of(costs, size_);
  std::vector<Parcel> solved(costs.size());
  for (size_t i = 0; i < costs.size(); ++i) {
    if (owners[i] != rank_) continue;
    solved[i] = solve(i);
    if (is_alone()) take(i, std::exchange(solved[i], {}));
  }
  if (is_alone()) return;
  for (size_t i = 0; i < costs.size(); ++i) {
    broadcast(solved[i], owners[i]);
    take(i, std::exchange(solved[i], {}));
  }
}

void Processes::fail(const Error& cause) {
  if (connection_ == nullptr) throw cause;
  connection_->fail(cause);
}

void Processes::leave() {
  if (connection_ != nullptr) connection_->leave();
}

Processes& one_process() {
  static Processes alone;
  return alone;
}

std::vector<int> owners_of(const std::vector<double>& costs, int processes) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<double> loads(static_cast<size_t>(processes), 0);
  std::vector<int> owners(costs.size());
  for (const size_t task : order) {
    const auto least = std::ranges::min_element(loads);
    owners[task] = static_cast<int>(least - loads.begin());
    *least += costs[task];
  }
  return owners;
}

}  // namespace ptq
