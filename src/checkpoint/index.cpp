#include "checkpoint/index.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "checkpoint/file_kind.h"
#include "checkpoint/json_scan.h"
#include "checkpoint/names.h"
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
  // The first keys of the document, and the text under "error" or "message": what servers answer with.
  const std::vector<std::string>& keys() const { return keys_; }
  const std::string& message() const { return message_; }

 private:
  static constexpr size_t kKeptKeys = 5;

  bool in_map() const { return depth() >= 1 && key_at(1) == "weight_map"; }

  void key_seen() override {
    if (depth() == 1 && keys_.size() < kKeptKeys) keys_.push_back(key_at(1).substr(0, kMaxNameBytes));
  }

  void opened(bool is_array) override {
    if (depth() == 0 && is_array) throw Error(where(), "an index of shards is a JSON object");
    if (!in_map()) return;
    if (depth() > 1 || is_array) throw Error(where(), "weight_map is no map of names to names");
    if (found_map_) throw Error(where(), "weight_map occurs twice");
    found_map_ = true;
  }

  void value(Json scalar) override {
    if (depth() == 0) throw Error(where(), "an index of shards is a JSON object");
    if (depth() == 1 && scalar.is_string() && (key_at(1) == "error" || key_at(1) == "message"))
      message_ = scalar.get_ref<const std::string&>().substr(0, kMaxNameBytes);
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
  std::vector<std::string> keys_;
  std::string message_;
};

// The position of a tensor in the index; nullopt if it is not listed.
std::optional<size_t> entry_of(const ShardIndex& index, const std::string& tensor) {
  const auto found = std::ranges::lower_bound(index.entries, tensor, {}, &ShardIndex::Entry::tensor);
  if (found == index.entries.end() || found->tensor != tensor) return std::nullopt;
  return static_cast<size_t>(found - index.entries.begin());
}

// Names for a message: the first few of them.
class NameList {
 public:
  void add(const std::string& name) {
    if (count_++ < kShown) text_ += (text_.empty() ? "" : ", ") + printable(name);
  }
  size_t count() const { return count_; }
  std::string text() const { return text_ + (count_ > kShown ? ", ..." : ""); }

 private:
  static constexpr size_t kShown = 4;
  std::string text_;
  size_t count_ = 0;
};

// What shards and index say of each other.
struct Agreement {
  struct Misplaced {
    size_t entry;
    std::string shard;
  };
  std::vector<bool> found;           // by entry: its file holds the tensor
  std::vector<Misplaced> misplaced;  // another file holds it
  NameList unlisted;
};

void compare_with_index(const ShardIndex& index, uint32_t file, const TensorFile& shard,
                        Agreement& agreement) {
  for (const StoredTensor& tensor : shard.tensors) {
    const auto entry = entry_of(index, tensor.info.name);
    if (!entry) {
      agreement.unlisted.add(tensor.info.name);
    } else if (index.entries[*entry].file == file) {
      agreement.found[*entry] = true;
    } else {
      agreement.misplaced.push_back({*entry, shard.path()});
    }
  }
}

// A tensor that lies both where the index says and elsewhere is left to whoever compares the two.
void judge(const ShardIndex& index, const std::string& path, const Agreement& agreement,
           StoredCheckpoint& checkpoint) {
  for (const auto& [entry, shard] : agreement.misplaced) {
    if (agreement.found[entry]) continue;
    throw Error(shard, "it holds the tensor \"" + printable(index.entries[entry].tensor) +
                           "\", which the index places in " + index.files[index.entries[entry].file]);
  }
  NameList absent;
  for (size_t i = 0; i < agreement.found.size(); ++i) {
    if (agreement.found[i]) continue;
    const ShardIndex::Entry& entry = index.entries[i];
    if (!may_be_absent(entry.tensor)) {
      throw Error(path,
                  "the tensor \"" + printable(entry.tensor) + "\" is not in " + index.files[entry.file] +
                      ", where the index places it",
                  "download both again; they belong to different checkpoints");
    }
    absent.add(entry.tensor);
  }
  if (agreement.unlisted.count() > 0) {
    checkpoint.add_note(std::to_string(agreement.unlisted.count()) +
                        " tensors are stored that the index does not list: " + agreement.unlisted.text());
  }
  if (absent.count() > 0) {
    checkpoint.add_note(std::to_string(absent.count()) +
                        " tensors that the index lists are not stored: " + absent.text());
  }
}

// What a document is that is no index.
Error no_index(const std::string& where, const std::vector<std::string>& keys, const std::string& message) {
  std::string list;
  for (const std::string& key : keys) list += (list.empty() ? "\"" : ", \"") + printable(key) + "\"";
  if (!message.empty()) {
    return Error(where,
                 "a server's message, neither weights nor an index of shards: \"" + printable(message) + "\"",
                 "download the file again, logged in if the model is gated");
  }
  return Error(where, "a JSON document " + (list.empty() ? "without keys" : "with the keys " + list) +
                          " and no weight_map: neither weights nor an index of shards");
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
  if (!handler.found_map()) throw no_index(where, handler.keys(), handler.message());
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
  Agreement agreement;
  agreement.found.resize(index.entries.size(), false);
  for (uint32_t i = 0; i < index.files.size(); ++i) {
    const std::string path = (directory / index.files[i]).string();
    const ByteSource shard(MappedFile::open(path, options.use_mmap));
    TensorFile file = parse_tensor_file(shard, options.state_key);
    compare_with_index(index, i, file, agreement);
    checkpoint.add_path(path);
    checkpoint.add_file(shard, std::move(file));
  }
  judge(index, source.path(), agreement, checkpoint);
}

}  // namespace ptq
