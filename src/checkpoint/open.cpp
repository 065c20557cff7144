// Which files make a checkpoint, and which reader each of them needs.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "checkpoint/directory.h"
#include "checkpoint/file_kind.h"
#include "checkpoint/index.h"
#include "checkpoint/names.h"
#include "checkpoint/stored_checkpoint.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr JsonLimits kConfigLimits = {.max_bytes = size_t{16} << 20, .max_depth = 32, .max_values = 500'000};

std::string name_of(const std::string& path) {
  return fs::path(path).filename().string();
}

void add_config(const CheckpointOptions& options, StoredCheckpoint& checkpoint) {
  std::string path = options.config_path;
  if (path.empty()) path = (fs::path(checkpoint.directory()) / "config.json").string();
  std::error_code failed;
  // A link that leads nowhere is to be an Error, as everywhere.
  if (options.config_path.empty() && !fs::exists(fs::symlink_status(path, failed))) return;
  std::vector<std::string> repeated;
  Json config = read_python_json_file(path, kConfigLimits, repeated);
  if (!config.is_object()) throw Error(path, "a configuration is a JSON object");
  checkpoint.set_config(std::move(config));
  checkpoint.add_path(path);
  for (const std::string& key : repeated) {
    checkpoint.add_warning(path + ": the key \"" + printable(key) +
                           "\" occurs twice in one object; the last counts, as in Python");
  }
}

void add_tensors(const std::string& file, const CheckpointOptions& options, StoredCheckpoint& checkpoint) {
  const ByteSource source(MappedFile::open(file, options.use_mmap));
  checkpoint.add_path(file);
  if (file_kind(source) == FileKind::kIndex) {
    add_shards(source, options, checkpoint);
  } else {
    checkpoint.add_file(source, parse_tensor_file(source, options.state_key));
  }
}

void add_tensors(const DirectoryCheckpoint& found, const CheckpointOptions& options,
                 StoredCheckpoint& checkpoint) {
  if (!found.file.empty()) return add_tensors(found.file, options, checkpoint);
  for (const std::string& shard : found.shards) add_tensors(shard, options, checkpoint);
  checkpoint.add_note("there is no index: all " + std::to_string(found.shards.size()) + " shards are read");
}

std::string shape_text(const TensorInfo& tensor) {
  return Json(tensor.shape).dump();
}

// What the headers of two forms of one checkpoint show to be different; "" if nothing.
std::string difference(const Checkpoint& a, const std::string& name_a, const Checkpoint& b,
                       const std::string& name_b) {
  for (const TensorInfo& tensor : a.tensors()) {
    const TensorInfo* other = b.find(tensor.name);
    if (other == nullptr && may_be_absent(tensor.name)) continue;
    if (other == nullptr) return printable(tensor.name) + " is only in " + name_a;
    if (other->shape != tensor.shape) {
      return printable(tensor.name) + " is " + shape_text(tensor) + " in " + name_a + " and " +
             shape_text(*other) + " in " + name_b;
    }
  }
  for (const TensorInfo& tensor : b.tensors()) {
    if (a.find(tensor.name) == nullptr && !may_be_absent(tensor.name))
      return printable(tensor.name) + " is only in " + name_b;
  }
  return "";
}

// Says that the form `other` of the checkpoint is there too. Throws Error if it holds other tensors.
void judge_other_form(const std::string& other, const std::string& file, const CheckpointOptions& options,
                      StoredCheckpoint& checkpoint) {
  const std::string name = name_of(file), other_name = name_of(other);
  const std::string remark = name + " is read; " + other_name + ", which lies beside it, is not";
  StoredCheckpoint beside;
  beside.set_config(checkpoint.config());
  try {
    add_tensors(other, options, beside);
    beside.finish();
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::kInterrupted) throw;
    const std::string why = error.what();
    checkpoint.add_note(remark + " (" + why.substr(0, why.find('\n')) + ")");
    return;
  }
  const std::string found = difference(checkpoint, name, beside, other_name);
  if (!found.empty()) {
    throw Error(checkpoint.path(), name + " and " + other_name + " hold different tensors: " + found,
                "remove the one that is out of date, or name the other, " +
                    (fs::path(checkpoint.directory()) / name).string());
  }
  // Two files of one format are a repository saved twice; of two formats, one that serves old programs too.
  const auto is_safetensors = [](const std::string& text) {
    return text.find(".safetensors") != std::string::npos;
  };
  if (is_safetensors(name) == is_safetensors(other_name)) {
    checkpoint.add_warning(remark +
                           "; their tensors have the same names and shapes, their values were not compared");
  } else {
    checkpoint.add_note(remark + "; their tensors have the same names and shapes");
  }
}

void judge_others(const DirectoryCheckpoint& found, const CheckpointOptions& options,
                  StoredCheckpoint& checkpoint) {
  if (found.others_are_forms) {
    for (const std::string& other : found.others) judge_other_form(other, found.file, options, checkpoint);
    return;
  }
  for (const std::string& other : found.others)
    checkpoint.add_warning(name_of(found.file) + " is read; " + name_of(other) +
                           ", which lies beside it, is not");
}

void refuse_adapter(const StoredCheckpoint& checkpoint, const std::string& path) {
  const std::vector<TensorInfo>& tensors = checkpoint.tensors();
  const bool is_adapter = !tensors.empty() && std::ranges::all_of(tensors, [](const TensorInfo& tensor) {
    return tensor.name.find(".lora_") != std::string::npos;
  });
  if (!is_adapter) return;
  throw Error(path, "a LoRA adapter alone, without the model that it changes",
              "merge it into its base (peft: merge_and_unload, save_pretrained)");
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options) {
  auto checkpoint = std::make_unique<StoredCheckpoint>();
  std::error_code error;
  DirectoryCheckpoint found;
  const bool is_directory = fs::is_directory(path, error);
  if (is_directory) {
    found = find_checkpoint(path);
  } else {
    refuse_hub_name(path);
    if (options.whole_model) refuse_lone_shard(path);
    found.file = path;
  }
  const std::string parent = fs::path(path).parent_path().string();
  checkpoint->set_origin(path, is_directory ? path : parent.empty() ? "." : parent);
  add_config(options, *checkpoint);
  add_tensors(found, options, *checkpoint);
  checkpoint->finish(options.ignore, options.ignore_must_match);
  judge_others(found, options, *checkpoint);
  if (options.whole_model) refuse_adapter(*checkpoint, path);
  for (const std::string& warning : checkpoint->warnings()) spdlog::warn("{}", warning);
  return checkpoint;
}

}  // namespace ptq
