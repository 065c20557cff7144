#include "checkpoint/directory.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <string_view>

#include "checkpoint/bytes.h"
#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/base/shell.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

// In the order of transformers.
constexpr std::array<std::string_view, 4> kForms = {"model.safetensors", "model.safetensors.index.json",
                                                    "pytorch_model.bin", "pytorch_model.bin.index.json"};
constexpr std::array<std::string_view, 5> kWeightEnds = {".safetensors", ".pt", ".pth", ".bin", ".ckpt"};
// What training leaves beside the weights.
constexpr std::array<std::string_view, 6> kTrainingNames = {"optimizer", "scheduler",     "scaler",
                                                            "rng_state", "training_args", "trainer_state"};

struct Listing {
  std::vector<std::string> all;    // names, sorted
  std::vector<std::string> links;  // symbolic links that lead nowhere
  std::vector<std::string> folders;
  std::vector<std::string> indices;                          // *.safetensors.index.json, *.bin.index.json
  std::vector<std::string> files;                            // of weights, each a whole
  std::map<std::string, std::map<int, std::string>> shards;  // by their name with N in place of the number
};

std::string join(const std::vector<std::string>& names, const std::string& separator = ", ") {
  constexpr size_t kShown = 12;
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    list += (i == 0 ? "" : separator) + printable(names[i]);
  return names.size() > kShown ? list + separator + "..." : list;
}

bool ends_as_weights(std::string_view name) {
  return std::ranges::any_of(kWeightEnds, [&](std::string_view end) { return name.ends_with(end); });
}

// Anything may be called .bin: token ids, an index of a database.
bool is_weight_file(const std::string& name) {
  const auto begins = [&](std::string_view begin) { return name.starts_with(begin); };
  return ends_as_weights(name) && !begins("adapter_") && std::ranges::none_of(kTrainingNames, begins) &&
         (!name.ends_with(".bin") || name.find("model") != std::string::npos);
}

Listing list_directory(const std::string& directory) {
  Listing listing;
  std::error_code error;
  for (fs::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    std::error_code failed;
    const std::string name = at->path().filename().string();
    listing.all.push_back(name);
    if (at->is_symlink(failed) && !fs::exists(at->path(), failed)) listing.links.push_back(name);
    if (at->is_directory(failed)) listing.folders.push_back(name);
  }
  if (error) throw Error(directory, "cannot list the directory: " + error.message());
  for (auto* names : {&listing.all, &listing.links, &listing.folders}) std::ranges::sort(*names);
  for (const std::string& name : listing.all) {
    if (std::ranges::binary_search(listing.folders, name) || std::ranges::binary_search(listing.links, name))
      continue;
    if (name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")) {
      listing.indices.push_back(name);
    } else if (!is_weight_file(name)) {
      continue;
    } else if (const auto shard = parse_shard_name(name)) {
      listing.shards[shard->stem + "-N-of-" + std::to_string(shard->count) + shard->suffix][shard->number] =
          name;
    } else {
      listing.files.push_back(name);
    }
  }
  return listing;
}

// The adapter's own words about its base; "its base" if it has none.
std::string base_of_adapter(const std::string& directory) {
  const std::string path = directory + "/adapter_config.json";
  std::error_code failed;
  if (!fs::exists(path, failed)) return "its base";
  const Json config = read_json_file(path, {.max_bytes = size_t{1} << 20});
  const bool named = config.is_object() && config.contains("base_model_name_or_path") &&
                     config.at("base_model_name_or_path").is_string();
  return named ? "its base " + printable(config.at("base_model_name_or_path").get<std::string>())
               : "its base";
}

// A repository in the cache of huggingface_hub: blobs/, refs/, snapshots/REVISION/.
void refuse_hub_cache(const std::string& directory, const Listing& listing) {
  if (!std::ranges::binary_search(listing.folders, "snapshots")) return;
  std::vector<std::string> snapshots;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(directory + "/snapshots", failed)) {
    if (entry.is_directory(failed)) snapshots.push_back(entry.path().filename().string());
  }
  std::ranges::sort(snapshots);
  if (snapshots.empty()) {
    throw Error(directory, "a folder of the Hugging Face cache into which nothing was downloaded",
                "hf download, then the folder that it prints");
  }
  const std::string path = (fs::path(directory) / "snapshots" / snapshots.front()).string();
  throw Error(directory, "a folder of the Hugging Face cache; the model lies in " + path,
              snapshots.size() == 1
                  ? shell_word(path)
                  : "one of its " + std::to_string(snapshots.size()) + " snapshots: " + join(snapshots));
}

[[noreturn]] void refuse_directory(const std::string& directory, const Listing& listing) {
  const auto has = [&](const char* name) { return std::ranges::binary_search(listing.all, name); };
  if (has("adapter_config.json") || has("adapter_model.safetensors") || has("adapter_model.bin")) {
    throw Error(directory, "a LoRA adapter alone, without the model that it changes",
                "merge it into " + base_of_adapter(directory) + " (peft: merge_and_unload, save_pretrained)");
  }
  refuse_hub_cache(directory, listing);
  for (const std::string& name : listing.links) {
    if (!is_weight_file(name) && !name.ends_with(".index.json")) continue;
    std::error_code failed;
    const fs::path link = fs::path(directory) / name;
    throw Error(link.string(),
                "is a symbolic link to " + fs::read_symlink(link, failed).string() + ", which does not exist",
                "download the model again, or copy it with `cp -rL` from where it lies");
  }
  std::string forms;
  for (const std::string_view form : kForms) forms += std::string(form) + ", ";
  throw Error(directory, "no checkpoint in the directory: no " + forms +
                             "nor another file of weights (.safetensors, .pt, .pth, .bin, .ckpt); " +
                             (listing.all.empty() ? "it is empty" : "there is " + join(listing.all)));
}

// The paths of a set of shards, which must be whole.
std::vector<std::string> shard_paths(const std::string& directory, const std::string& pattern,
                                     const std::map<int, std::string>& shards) {
  const int count = parse_shard_name(shards.begin()->second)->count;
  std::vector<std::string> missing, paths;
  for (int i = 1; i <= count && missing.size() < 4; ++i) {
    if (!shards.contains(i)) missing.push_back(std::to_string(i));
  }
  if (!missing.empty() || static_cast<int>(shards.size()) != count) {
    throw Error(directory,
                std::to_string(shards.size()) + " of " + std::to_string(count) + " shards " +
                    printable(pattern) + " are there; the first that is missing is number " +
                    (missing.empty() ? "1" : missing.front()),
                "download the missing ones");
  }
  for (const auto& [number, name] : shards) paths.push_back((fs::path(directory) / name).string());
  return paths;
}

}  // namespace

std::optional<ShardName> parse_shard_name(const std::string& name) {
  constexpr std::string_view kOf = "-of-";
  constexpr size_t kDigits = 5;
  const size_t of = name.rfind(kOf);
  if (of == std::string::npos || of < kDigits + 1 || name[of - kDigits - 1] != '-') return std::nullopt;
  const auto read = [&](size_t at, int& value) {
    const char* const begin = name.data() + at;
    return at + kDigits <= name.size() &&
           std::from_chars(begin, begin + kDigits, value).ptr == begin + kDigits && value > 0;
  };
  ShardName shard;
  if (!read(of - kDigits, shard.number) || !read(of + kOf.size(), shard.count)) return std::nullopt;
  shard.stem = name.substr(0, of - kDigits - 1);
  shard.suffix = name.substr(of + kOf.size() + kDigits);
  return shard;
}

DirectoryCheckpoint find_checkpoint(const std::string& directory) {
  const Listing listing = list_directory(directory);
  const auto path = [&](std::string_view name) { return (fs::path(directory) / name).string(); };
  DirectoryCheckpoint found;
  for (const std::string_view form : kForms) {
    const bool is_there =
        std::ranges::binary_search(listing.all, form) && !std::ranges::binary_search(listing.links, form);
    if (!is_there) continue;
    if (found.file.empty()) {
      found.file = path(form);
    } else {
      found.others.push_back(path(form));
    }
  }
  found.others_are_forms = true;
  if (!found.file.empty()) return found;
  if (listing.indices.size() == 1) {
    found.file = path(listing.indices.front());
    return found;
  }
  std::vector<std::string> choice = listing.indices.empty() ? listing.files : listing.indices;
  for (const auto& [pattern, shards] : listing.shards) {
    if (listing.indices.empty()) choice.push_back(pattern);
  }
  if (choice.empty()) refuse_directory(directory, listing);
  std::vector<std::string> pt_files;
  for (const std::string& name : choice) {
    if (name.ends_with(".pt")) pt_files.push_back(name);
  }
  const std::string taken = choice.size() == 1     ? choice.front()
                            : pt_files.size() == 1 ? pt_files.front()
                                                   : "";
  if (taken.empty()) {
    throw Error(directory, std::to_string(choice.size()) + " files could be the checkpoint: " + join(choice),
                "name one of them");
  }
  for (const std::string& name : choice) {
    if (name != taken) found.others.push_back(path(name));
  }
  found.others_are_forms = false;
  const auto shards = listing.shards.find(taken);
  if (shards != listing.shards.end()) {
    found.shards = shard_paths(directory, taken, shards->second);
  } else {
    found.file = path(taken);
  }
  return found;
}

void refuse_lone_shard(const std::string& path) {
  const auto shard = parse_shard_name(fs::path(path).filename().string());
  std::error_code failed;
  if (!shard || shard->count < 2 || !fs::exists(path, failed)) return;
  const fs::path parent = fs::path(path).parent_path();
  const fs::path index = parent / (shard->stem + shard->suffix + ".index.json");
  throw Error(path,
              "is shard " + std::to_string(shard->number) + " of " + std::to_string(shard->count) +
                  ", not a whole model",
              fs::exists(index, failed)
                  ? "the index of all shards, " + shell_word(index.string())
                  : "the directory of all shards, " + shell_word(parent.empty() ? "." : parent.string()));
}

void refuse_hub_name(const std::string& path) {
  const size_t slash = path.find('/');
  const bool has_two_parts = slash != std::string::npos && slash > 0 && slash + 1 < path.size() &&
                             path.find('/', slash + 1) == std::string::npos;
  const bool is_plain = std::ranges::all_of(path, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
  });
  std::error_code failed;
  if (!has_two_parts || !is_plain || path.starts_with(".") || ends_as_weights(path)) return;
  if (fs::exists(fs::symlink_status(path, failed)) || fs::exists(path.substr(0, slash), failed)) return;
  throw Error(
      path, "no such file or directory; if it is a model on the Hugging Face hub: nothing is downloaded here",
      "hf download " + path + " --local-dir " + path.substr(slash + 1) + ", then " + path.substr(slash + 1));
}

}  // namespace ptq
