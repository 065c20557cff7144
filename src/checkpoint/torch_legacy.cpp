#include "checkpoint/torch_legacy.h"

#include <algorithm>
#include <array>
#include <map>

#include "checkpoint/pickle.h"
#include "checkpoint/torch_objects.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr std::array<uint8_t, 10> kMagic = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
constexpr int64_t kVersion = 1001;
constexpr uint64_t kMaxStorages = 500'000;

// The pickles at the start of the file, one after the other.
class PickleRow {
 public:
  PickleRow(const ByteSource& source, std::span<const std::byte> bytes) : source_(source), bytes_(bytes) {}

  PickleGraph next(const char* what) {
    PickleGraph graph = parse_pickle(bytes_.subspan(position_), source_.path() + ": " + what);
    position_ += graph.end();
    return graph;
  }
  size_t position() const { return position_; }

 private:
  const ByteSource& source_;
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

bool is_magic(const PickleGraph& graph) {
  return graph.kind(graph.root()) == NodeKind::kBigInt &&
         std::ranges::equal(graph.bytes(graph.root()), kMagic, {},
                            [](std::byte b) { return static_cast<uint8_t>(b); });
}

void check_system(const PickleGraph& graph) {
  if (graph.kind(graph.root()) != NodeKind::kDict)
    throw Error(graph.where(), "no description of the machine");
  for (uint32_t i = graph.first(graph.root()); i != kNoNode; i = graph.next(i)) {
    const NodeId key = graph.item(i);
    i = graph.next(i);
    const PickleNode& value = graph.at(graph.item(i));
    if (graph.text(key) == "little_endian" && (value.kind != NodeKind::kBool || value.value == 0)) {
      throw Error(graph.where(), "a big-endian file, which is not read",
                  "save it again on a little-endian machine");
    }
  }
}

// All storages the object refers to, by key. The list after it has no element sizes.
std::map<std::string, TorchStorage> storages_of(const PickleGraph& graph) {
  std::map<std::string, TorchStorage> found;
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (graph.kind(id) != NodeKind::kPersistent) continue;
    const auto storage = torch_storage(graph, id, graph.where());
    if (!storage) continue;
    const auto [place, is_new] = found.try_emplace(storage->key, *storage);
    if (!is_new && (place->second.bytes != storage->bytes || place->second.dtype != storage->dtype)) {
      throw Error(graph.where() + ": storage " + printable(storage->key), "it is described in two ways");
    }
    if (found.size() > kMaxStorages) throw Error(graph.where(), "too many storages");
  }
  return found;
}

// Adds the storages to `file` in the order they lie in it; returns their indices by key.
std::map<std::string, uint32_t> place_storages(const ByteSource& source, size_t position,
                                               const PickleGraph& keys,
                                               const std::map<std::string, TorchStorage>& storages,
                                               TensorFile& file) {
  std::map<std::string, uint32_t> placed;
  if (keys.kind(keys.root()) != NodeKind::kList) throw Error(keys.where(), "no list of storages");
  for (uint32_t i = keys.first(keys.root()); i != kNoNode; i = keys.next(i)) {
    const std::string key(keys.text(keys.item(i)));
    const std::string where = source.path() + ": storage " + printable(key);
    const auto storage = storages.find(key);
    if (storage == storages.end()) throw Error(where, "no tensor refers to it");
    if (!source.contains(position, sizeof(uint64_t))) throw Error(where, "the file ends before it");
    const Slice count_bytes = source.slice(position, sizeof(uint64_t));
    const auto count = load_le<uint64_t>(count_bytes.bytes);
    position += sizeof(uint64_t);
    const auto item_bytes = static_cast<uint64_t>(dtype_bytes(storage->second.dtype));
    if (count != storage->second.bytes / item_bytes) {
      throw Error(where, "the file has " + std::to_string(count) + " elements, the pickle says " +
                             std::to_string(storage->second.bytes / item_bytes));
    }
    if (!source.contains(position, storage->second.bytes)) {
      throw Error(where,
                  "its " + std::to_string(storage->second.bytes) + " bytes from byte " +
                      std::to_string(position) + " lie outside the file of " + std::to_string(source.size()),
                  "download the file again; it is damaged or cut short");
    }
    const uint32_t index = file.add_storage({printable(key), position, storage->second.bytes, std::nullopt});
    if (!placed.emplace(key, index).second) throw Error(where, "it is listed twice");
    position += static_cast<size_t>(storage->second.bytes);
  }
  return placed;
}

}  // namespace

TensorFile parse_torch_legacy(const ByteSource& source, const std::string& state_key) {
  TensorFile file(source.path());
  const Slice head = source.slice(0, std::min(source.size(), kMaxPickleBytes));
  PickleRow row(source, head.bytes);
  if (!is_magic(row.next("magic number"))) {
    throw Error(source.path(), "a pickle, but not one that torch.save wrote",
                "torch.save(model.state_dict(), path)");
  }
  const PickleGraph version = row.next("version");
  if (version.integer(version.root()) != kVersion) {
    throw Error(version.where(), "version " + std::to_string(version.integer(version.root())) +
                                     " of the format, " + std::to_string(kVersion) + " is read");
  }
  check_system(row.next("description of the machine"));
  const PickleGraph object = row.next("object");
  const PickleGraph keys = row.next("list of storages");
  const auto placed = place_storages(source, row.position(), keys, storages_of(object), file);
  const auto find_storage = [&](const TorchStorage& storage) {
    const auto found = placed.find(storage.key);
    if (found == placed.end())
      throw Error(source.path() + ": storage " + printable(storage.key), "the file does not hold it");
    return found->second;
  };
  add_torch_tensors(object, state_key, find_storage, file);
  source.drop(0, source.size());
  return file;
}

}  // namespace ptq
