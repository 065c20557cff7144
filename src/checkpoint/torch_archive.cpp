#include "checkpoint/torch_archive.h"

#include <map>

#include "checkpoint/pickle.h"
#include "checkpoint/torch_objects.h"
#include "checkpoint/zip.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr std::string_view kPickle = "data.pkl";

// The folder of the only data.pkl, with its slash.
std::string find_root(const ZipIndex& zip, const std::string& path) {
  const ZipEntry* found = nullptr;
  for (const ZipEntry& entry : zip.entries()) {
    if (entry.name != kPickle && !entry.name.ends_with("/" + std::string(kPickle))) continue;
    if (found != nullptr) {
      throw Error(path,
                  "the archive has two pickles: " + printable(found->name) + " and " + printable(entry.name));
    }
    found = &entry;
  }
  if (found == nullptr) {
    throw Error(path, "a zip archive without data.pkl: not written by torch.save",
                "unpack it and name the checkpoint inside");
  }
  return found->name.substr(0, found->name.size() - kPickle.size());
}

void check_byte_order(const ZipIndex& zip, const std::string& root, const std::string& path) {
  const std::string name = root + "byteorder";
  constexpr uint64_t kLongest = 16;
  if (zip.find(name) == nullptr) return;
  const Slice record = zip.read(name, kLongest);
  if (as_text(record.bytes) != "little") {
    throw Error(
        path, "its byte order is \"" + printable(as_text(record.bytes)) + "\"; little-endian files are read",
        "save it again on a little-endian machine");
  }
}

}  // namespace

TensorFile parse_torch_archive(const ByteSource& source, const std::string& state_key) {
  TensorFile file(source.path());
  const ZipIndex zip(source);
  const std::string root = find_root(zip, source.path());
  if (zip.find(root + "constants.pkl") != nullptr) {
    throw Error(source.path(), "a TorchScript archive, which is not read",
                "torch.save(torch.jit.load(path).state_dict(), other_path)");
  }
  check_byte_order(zip, root, source.path());
  const Slice pickle = zip.read(root + std::string(kPickle), kMaxPickleBytes);
  if (!zip.stored(root + std::string(kPickle)).crc32) {
    file.notes.push_back("the archive has no checksums: damage to its bytes goes unnoticed");
  }
  const PickleGraph graph = parse_pickle(pickle.bytes, source.path() + ": " + printable(root) + "data.pkl");

  std::map<std::string, uint32_t> known;
  const auto find_storage = [&](const TorchStorage& storage) {
    const auto [place, is_new] = known.try_emplace(storage.key, 0);
    if (is_new) {
      const ZipEntry& entry = zip.stored(root + "data/" + storage.key);
      place->second = file.add_storage({entry.name, entry.offset, entry.bytes, entry.crc32});
    }
    const uint64_t found = file.storages[place->second].bytes;
    if (found != storage.bytes) {
      throw Error(source.path() + ": storage " + printable(storage.key),
                  "the archive has " + std::to_string(found) + " bytes, the pickle says " +
                      std::to_string(storage.bytes));
    }
    return place->second;
  };
  add_torch_tensors(graph, state_key, find_storage, file);
  source.drop(0, source.size());
  return file;
}

}  // namespace ptq
