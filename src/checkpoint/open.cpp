// Which files make a checkpoint, and which reader each of them needs.
#include <algorithm>
#include <filesystem>

#include "checkpoint/file_kind.h"
#include "checkpoint/index.h"
#include "checkpoint/stored_checkpoint.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr JsonLimits kConfigLimits = {.max_bytes = size_t{16} << 20, .max_depth = 32, .max_values = 500'000};

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// The only file in the directory that ends in .pt; "" if there is none.
std::string only_pt_file(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".pt") names.push_back(at->path().filename().string());
  }
  if (error) throw Error(directory, "cannot list the directory: " + error.message());
  if (names.size() <= 1) return names.empty() ? "" : names.front();
  std::ranges::sort(names);
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  throw Error(directory, std::to_string(names.size()) + " .pt files: " + list, "name one of them");
}

std::string file_of_directory(const std::string& directory) {
  for (const char* name : {"model.safetensors.index.json", "model.safetensors",
                           "pytorch_model.bin.index.json", "pytorch_model.bin"}) {
    const std::string path = (fs::path(directory) / name).string();
    if (exists(path)) return path;
  }
  const std::string name = only_pt_file(directory);
  if (name.empty()) {
    throw Error(directory,
                "no model.safetensors.index.json, model.safetensors, pytorch_model.bin.index.json, "
                "pytorch_model.bin or .pt file in the directory");
  }
  return (fs::path(directory) / name).string();
}

void add_config(const CheckpointOptions& options, StoredCheckpoint& checkpoint) {
  std::string path = options.config_path;
  if (path.empty()) path = (fs::path(checkpoint.directory()) / "config.json").string();
  if (options.config_path.empty() && !exists(path)) return;
  Json config = read_json_file(path, kConfigLimits);
  if (!config.is_object()) throw Error(path, "a configuration is a JSON object");
  checkpoint.set_config(std::move(config));
  checkpoint.add_path(path);
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options) {
  auto checkpoint = std::make_unique<StoredCheckpoint>();
  std::error_code error;
  const bool is_directory = fs::is_directory(path, error);
  const std::string file = is_directory ? file_of_directory(path) : path;
  const std::string parent = fs::path(file).parent_path().string();
  checkpoint->set_origin(path, is_directory ? path : parent.empty() ? "." : parent);
  add_config(options, *checkpoint);

  const ByteSource source(MappedFile::open(file, options.use_mmap));
  checkpoint->add_path(file);
  if (file_kind(source) == FileKind::kIndex) {
    add_shards(source, options, *checkpoint);
  } else {
    checkpoint->add_file(source, parse_tensor_file(source, options.state_key));
  }
  checkpoint->finish(options.ignore, options.ignore_must_match);
  return checkpoint;
}

}  // namespace ptq
