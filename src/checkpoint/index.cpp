#include "checkpoint/index.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "checkpoint/file_kind.h"
#include "checkpoint/json_scan.h"
#include "checkpoint/stored_checkpoint.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr size_t kMaxIndexBytes = size_t{100} << 20;
constexpr size_t kMaxDepth = 8;
constexpr size_t kMaxFiles = 10'000;

// Keeps a hostile index from naming files anywhere else.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name.find("..") == std::string_view::npos &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

class IndexHandler : public JsonHandler {
 public:
  IndexHandler(const std::string& path, ShardIndex& index) : JsonHandler(path, kMaxDepth), index_(index) {}
  bool found_map() const { return found_map_; }

 private:
  bool in_map() const { return depth() >= 1 && key_at(1) == "weight_map"; }

  void opened(bool is_array) override {
    if (depth() == 0 && is_array) throw Error(where(), "an index of shards is a JSON object");
    if (!in_map()) return;
    if (depth() > 1 || is_array) throw Error(where(), "weight_map is no map of names to names");
    if (found_map_) throw Error(where(), "weight_map occurs twice");
    found_map_ = true;
  }

  void value(Json scalar) override {
    if (depth() == 0) throw Error(where(), "an index of shards is a JSON object");
    if (!in_map()) return;
    if (depth() != 2 || !scalar.is_string()) throw Error(where(), "weight_map is no map of names to names");
    const auto& file = scalar.get_ref<const std::string&>();
    if (!is_plain_name(file)) {
      throw Error(where(), "the shard \"" + printable(file) + "\" of tensor \"" + printable(key_at(2)) +
                               "\" is not a plain file name");
    }
    add(key_at(2), file);
  }

  void add(const std::string& tensor, const std::string& file) {
    name_bytes_ += tensor.size();
    if (index_.entries.size() >= kMaxTensors || tensor.size() > kMaxNameBytes ||
        name_bytes_ > kMaxTotalNameBytes) {
      throw Error(where(), "too many tensors, or names that are too long");
    }
    const auto [place, is_new] = files_.try_emplace(file, static_cast<uint32_t>(files_.size()));
    if (is_new && files_.size() > kMaxFiles) {
      throw Error(where(), "more than " + std::to_string(kMaxFiles) + " shards");
    }
    if (is_new) index_.files.push_back(file);
    index_.entries.push_back({tensor, place->second});
  }

  ShardIndex& index_;
  std::map<std::string, uint32_t> files_;
  size_t name_bytes_ = 0;
  bool found_map_ = false;
};

// The position of a tensor in the index.
size_t entry_of(const ShardIndex& index, const std::string& tensor, const std::string& shard) {
  const auto found = std::ranges::lower_bound(index.entries, tensor, {}, &ShardIndex::Entry::tensor);
  if (found == index.entries.end() || found->tensor != tensor) {
    throw Error(shard, "it holds the tensor \"" + printable(tensor) + "\", which the index does not list");
  }
  return static_cast<size_t>(found - index.entries.begin());
}

}  // namespace

ShardIndex parse_index(std::string_view text, const std::string& where) {
  if (text.size() > kMaxIndexBytes) {
    throw Error(where, "an index of " + std::to_string(text.size()) + " bytes; at most " +
                           std::to_string(kMaxIndexBytes) + " are read");
  }
  ShardIndex index;
  IndexHandler handler(where, index);
  scan_json(text, handler, where);
  if (!handler.found_map()) throw Error(where, "there is no weight_map: not an index of shards");
  if (index.entries.empty()) throw Error(where, "the weight_map is empty");
  std::ranges::sort(index.entries, {}, &ShardIndex::Entry::tensor);
  const auto twice = std::ranges::adjacent_find(index.entries, {}, &ShardIndex::Entry::tensor);
  if (twice != index.entries.end()) {
    throw Error(where, "the tensor \"" + printable(twice->tensor) + "\" occurs twice");
  }
  return index;
}

void add_shards(const ByteSource& source, const CheckpointOptions& options, StoredCheckpoint& checkpoint) {
  const Slice text = source.slice(0, source.size());
  const ShardIndex index = parse_index(as_text(text.bytes), source.path());
  source.drop(0, source.size());
  const auto directory = std::filesystem::path(source.path()).parent_path();
  std::vector<bool> found(index.entries.size(), false);
  for (uint32_t i = 0; i < index.files.size(); ++i) {
    const std::string path = (directory / index.files[i]).string();
    const ByteSource shard(MappedFile::open(path, options.use_mmap));
    TensorFile file = parse_tensor_file(shard, options.state_key);
    for (const StoredTensor& tensor : file.tensors) {
      const size_t entry = entry_of(index, tensor.info.name, path);
      const std::string& listed = index.files[index.entries[entry].file];
      if (index.entries[entry].file != i) {
        throw Error(path, "it holds the tensor \"" + printable(tensor.info.name) +
                              "\", which the index places in " + listed);
      }
      found[entry] = true;
    }
    checkpoint.add_path(path);
    checkpoint.add_file(shard, std::move(file));
  }
  const auto missing = std::ranges::find(found, false);
  if (missing != found.end()) {
    const auto& entry = index.entries[static_cast<size_t>(missing - found.begin())];
    throw Error(source.path(), "the tensor \"" + printable(entry.tensor) + "\" is not in " +
                                   index.files[entry.file] + ", where the index places it");
  }
}

}  // namespace ptq
