#include "checkpoint/stored_checkpoint.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>

#include "checkpoint/names.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/pattern.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

// Copies elements in C order. REQUIRES: every index lies in `from`; no size is 0.
void copy_strided(const std::byte* from, const std::vector<int64_t>& shape,
                  const std::vector<int64_t>& strides, size_t item_bytes, std::span<std::byte> to) {
  std::vector<int64_t> index(shape.size(), 0);
  int64_t element = 0;
  for (size_t out = 0; out < to.size(); out += item_bytes) {
    std::memcpy(&to[out], from + static_cast<size_t>(element) * item_bytes, item_bytes);
    for (size_t i = shape.size(); i-- > 0;) {
      element += strides[i];
      if (++index[i] < shape[i]) break;
      element -= strides[i] * shape[i];
      index[i] = 0;
    }
  }
}

std::string without_digits(std::string name) {
  std::erase_if(name, [](char c) { return c >= '0' && c <= '9'; });
  return name;
}

uint32_t crc32_of(const ByteSource& source, const Storage& storage) {
  constexpr uint64_t kPieceBytes = uint64_t{1} << 20;
  uLong crc = ::crc32(0, nullptr, 0);
  for (uint64_t done = 0; done < storage.bytes; done += kPieceBytes) {
    const uint64_t length = std::min(kPieceBytes, storage.bytes - done);
    const Slice piece = source.slice(static_cast<size_t>(storage.offset + done), static_cast<size_t>(length));
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(piece.bytes.data()), static_cast<uInt>(length));
  }
  return static_cast<uint32_t>(crc);
}

}  // namespace

const TensorInfo* Checkpoint::find(const std::string& name) const {
  const auto found = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

void StoredCheckpoint::set_origin(std::string path, std::string directory) {
  path_ = std::move(path);
  directory_ = std::move(directory);
}

void StoredCheckpoint::set_config(Json config) {
  config_ = std::move(config);
}

void StoredCheckpoint::add_file(const ByteSource& source, TensorFile file) {
  const auto part = static_cast<uint32_t>(parts_.size());
  tensors_.reserve(tensors_.size() + file.tensors.size());
  places_.reserve(places_.size() + file.tensors.size());
  for (StoredTensor& tensor : file.tensors) {
    tensors_.push_back(std::move(tensor.info));
    places_.push_back({part, tensor.storage, tensor.first_element, std::move(tensor.strides)});
  }
  const size_t storages = file.storages.size();
  parts_.push_back({source, std::move(file.storages), std::make_unique<std::atomic<bool>[]>(storages)});
  for (std::string& note : file.notes) notes_.push_back(std::move(note));
  is_training_checkpoint_ = is_training_checkpoint_ || file.is_training_checkpoint;
}

void StoredCheckpoint::finish(const std::vector<std::string>& ignore, bool must_match) {
  publish_names(tensors_, is_training_checkpoint_, notes_);
  publish_tied_embedding(tensors_, config_, notes_);
  split_experts();
  sort();
  drop_copies();
  leave_out(ignore, must_match);
  find_ties();
  const auto wide = std::ranges::count(tensors_, DType::kF64, &TensorInfo::dtype);
  if (wide > 0) {
    notes_.push_back(std::to_string(wide) + " of " + std::to_string(tensors_.size()) +
                     " tensors are F64; weights are read as F32");
  }
}

void StoredCheckpoint::split_experts() {
  const size_t stored = tensors_.size();
  size_t count = 0;
  for (size_t i = 0; i < stored; ++i) {
    if (!holds_experts(tensors_[i])) continue;
    ++count;
    const TensorInfo whole = std::exchange(tensors_[i], {});  // one without a name is left out
    const Place place = places_[i];
    const bool contiguous = place.strides.empty();
    const int64_t each = contiguous ? whole.shape[1] * whole.shape[2] : place.strides[0];
    std::vector<int64_t> strides;
    if (!contiguous) strides = {place.strides[1], place.strides[2]};
    for (int64_t e = 0; e < whole.shape[0]; ++e) {
      tensors_.push_back({expert_name(whole.name, e), whole.dtype, {whole.shape[1], whole.shape[2]}});
      places_.push_back({place.part, place.storage, place.first_element + e * each, strides});
    }
  }
  if (count == 0) return;
  notes_.push_back(std::to_string(count) +
                   " tensors hold the matrices of several experts, and are read as one for "
                   "each: \"...input_linear.0.weight\"");
}

void StoredCheckpoint::select(const std::vector<size_t>& order) {
  std::vector<TensorInfo> tensors;
  std::vector<Place> places;
  tensors.reserve(order.size());
  places.reserve(order.size());
  for (const size_t i : order) {
    tensors.push_back(std::move(tensors_[i]));
    places.push_back(std::move(places_[i]));
  }
  tensors_ = std::move(tensors);
  places_ = std::move(places);
}

void StoredCheckpoint::sort() {
  std::vector<size_t> order;
  order.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!tensors_[i].name.empty()) order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](size_t i) -> const std::string& { return tensors_[i].name; });
  select(order);
}

void StoredCheckpoint::drop_copies() {
  std::vector<size_t> kept;
  kept.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const bool is_copy = !kept.empty() && tensors_[kept.back()].name == tensors_[i].name;
    if (!is_copy) {
      kept.push_back(i);
      continue;
    }
    const std::string& other = parts_[places_[kept.back()].part].source.path();
    if (!same_bytes(kept.back(), i)) {
      throw Error(where(i), "the tensor is also in " + other + ", with other values",
                  "the two belong to different checkpoints, or one of them is damaged");
    }
    notes_.push_back(where(i) + ": is a copy of the one in " + other + " and read once");
  }
  if (kept.size() < tensors_.size()) select(kept);
}

bool StoredCheckpoint::same_bytes(size_t a, size_t b) const {
  constexpr size_t kPieceBytes = size_t{1} << 24;
  if (tensors_[a].dtype != tensors_[b].dtype || tensors_[a].shape != tensors_[b].shape) return false;
  verify(a);
  verify(b);
  const Slice left = gather(a), right = gather(b);
  for (size_t at = 0; at < left.bytes.size(); at += kPieceBytes) {
    throw_if_interrupted();
    const size_t length = std::min(kPieceBytes, left.bytes.size() - at);
    if (std::memcmp(left.bytes.data() + at, right.bytes.data() + at, length) != 0) return false;
  }
  for (const size_t i : {a, b}) drop_storage(i);
  return true;
}

void StoredCheckpoint::leave_out(const std::vector<std::string>& patterns, bool must_match) {
  for (const std::string& pattern : patterns) {
    const auto matches = [&](const std::string& name) { return matches_pattern(pattern, name); };
    const size_t before = ignored_.size();
    size_t kept = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (matches(tensors_[i].name)) {
        ignored_.push_back(tensors_[i].name);
      } else {
        if (kept != i) tensors_[kept] = std::move(tensors_[i]);
        if (kept != i) places_[kept] = std::move(places_[i]);
        ++kept;
      }
    }
    tensors_.resize(kept);
    places_.resize(kept);
    if (must_match && std::ranges::none_of(ignored_, matches)) {
      throw usage_error(
          "--ignore-tensors", "no tensor matches \"" + pattern + "\"",
          "a tensor's name or a shell pattern such as \"*.lora_A\"; `quantize inspect` lists the "
          "names");
    }
    if (ignored_.size() == before) continue;
    notes_.push_back("left out by --ignore-tensors \"" + pattern +
                     "\": " + std::to_string(ignored_.size() - before) + " tensors");
  }
  std::ranges::sort(ignored_);
}

void StoredCheckpoint::find_ties() {
  const auto elements = [&](size_t i) {
    const Place& place = places_[i];
    return std::tie(place.part, place.storage, place.first_element, tensors_[i].dtype, tensors_[i].shape,
                    place.strides);
  };
  std::vector<size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) {
    return elements(a) != elements(b) ? elements(a) < elements(b) : a < b;
  });
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && elements(order[begin]) == elements(order[end])) ++end;
    if (end - begin > 1 && tensors_[order[begin]].num_elements() > 0) {
      std::vector<std::string> group;
      for (size_t i = begin; i < end; ++i) group.push_back(tensors_[order[i]].name);
      ties_.push_back(std::move(group));
    }
    begin = end;
  }
  std::ranges::sort(ties_);
}

size_t StoredCheckpoint::index_of(const std::string& name) const {
  const TensorInfo* found = find(name);
  if (found != nullptr) return static_cast<size_t>(found - tensors_.data());
  std::vector<std::string> names;  // without those of other layers, which are no spelling of this one
  for (const TensorInfo& tensor : tensors_) {
    if (without_digits(tensor.name) != without_digits(name)) names.push_back(tensor.name);
  }
  throw Error(path_, "there is no tensor \"" + printable(name) + "\"", suggest(name, names));
}

std::string StoredCheckpoint::where(size_t tensor) const {
  return parts_[places_[tensor].part].source.path() + ": tensor \"" + printable(tensors_[tensor].name) + "\"";
}

void StoredCheckpoint::verify(size_t tensor) const {
  const Part& part = parts_[places_[tensor].part];
  const Storage& storage = part.storages[places_[tensor].storage];
  std::atomic<bool>& verified = part.verified[places_[tensor].storage];
  if (!storage.crc32 || verified.load()) return;
  const uint32_t found = crc32_of(part.source, storage);
  if (found != *storage.crc32) {
    throw Error(where(tensor),
                "the checksum of " + printable(storage.name) + " is " + std::to_string(found) +
                    ", the file says " + std::to_string(*storage.crc32),
                "download the file again; it is damaged");
  }
  verified.store(true);
}

TensorBytes StoredCheckpoint::read(const std::string& name) const {
  const size_t i = index_of(name);
  verify(i);
  const Slice slice = gather(i);
  return {tensors_[i], slice.bytes, slice.owner};
}

Slice StoredCheckpoint::gather(size_t tensor) const {
  const TensorInfo& info = tensors_[tensor];
  const Place& place = places_[tensor];
  const Part& part = parts_[place.part];
  const auto item_bytes = static_cast<size_t>(dtype_bytes(info.dtype));
  const auto bytes = static_cast<size_t>(info.bytes());
  const Storage& storage = part.storages[place.storage];
  const size_t offset =
      static_cast<size_t>(storage.offset) + static_cast<size_t>(place.first_element) * item_bytes;
  const bool contiguous = place.strides.empty();
  if (contiguous && part.source.in_memory()) {
    Slice slice = part.source.slice(offset, bytes);
    if (reinterpret_cast<uintptr_t>(slice.bytes.data()) % item_bytes == 0) return slice;
  }
  auto copy = std::make_shared_for_overwrite<std::byte[]>(bytes);
  const std::span<std::byte> out(copy.get(), bytes);
  if (contiguous) {
    part.source.read(offset, out);
  } else {
    const size_t length = static_cast<size_t>(storage.offset + storage.bytes) - offset;
    copy_strided(part.source.slice(offset, length).bytes.data(), info.shape, place.strides, item_bytes, out);
  }
  return {out, std::move(copy)};
}

void StoredCheckpoint::drop(const std::string& name) const {
  drop_storage(index_of(name));
}

void StoredCheckpoint::drop_storage(size_t tensor) const {
  const Part& part = parts_[places_[tensor].part];
  const Storage& storage = part.storages[places_[tensor].storage];
  part.source.drop(static_cast<size_t>(storage.offset), static_cast<size_t>(storage.bytes));
}

}  // namespace ptq
