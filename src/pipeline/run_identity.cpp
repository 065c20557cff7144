#include "pipeline/run_identity.h"

#include <algorithm>
#include <filesystem>
#include <span>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostDifferences = 3;
constexpr size_t kLongestValue = 80;

Json file_identity(const std::string& path) {
  // Hashing anything else might wait forever; open() refuses it, and says why as every reader does.
  if (!fs::is_regular_file(path)) MappedFile::open(path, /*use_mmap=*/false);
  return {{"name", file_label(path)}, {"sha256", sha256_file(path)}};
}

Json text_identity(const RunOptions& options, const std::string& path) {
  const auto piped = options.piped.find(path);
  if (piped == options.piped.end()) return file_identity(path);
  return {{"name", file_label(path)}, {"sha256", sha256_hex(std::as_bytes(std::span(*piped->second)))}};
}

std::string shown(const Json* value) {
  std::string text =
      value == nullptr ? "absent" : value->dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kLongestValue) {
    text.resize(kLongestValue);
    text += "...";
  }
  return text;
}

void collect(const Json* there, const Json* here, const std::string& path, std::vector<std::string>& found) {
  if (there != nullptr && here != nullptr) {
    if (*there == *here) return;
    if (there->is_object() && here->is_object()) {
      const auto member = [](const Json& object, const std::string& key) {
        const auto place = object.find(key);
        return place == object.end() ? nullptr : &*place;
      };
      const std::string prefix = path.empty() ? "" : path + ".";
      for (const auto& [key, value] : here->items()) {
        collect(member(*there, key), &value, prefix + key, found);
      }
      for (const auto& [key, value] : there->items()) {
        if (!here->contains(key)) collect(&value, nullptr, prefix + key, found);
      }
      return;
    }
    if (there->is_array() && here->is_array()) {
      for (size_t i = 0; i < std::max(there->size(), here->size()); ++i) {
        collect(i < there->size() ? &(*there)[i] : nullptr, i < here->size() ? &(*here)[i] : nullptr,
                path + "[" + std::to_string(i) + "]", found);
      }
      return;
    }
  }
  found.push_back(path + " is " + shown(there) + " there, " + shown(here) + " here");
}

}  // namespace

Json run_identity(const RunOptions& options, const Report& report, const Checkpoint& checkpoint) {
  Json calibration = Json::array();
  for (const std::string& path : options.calibration) calibration.push_back(text_identity(options, path));
  const std::string beside = (fs::path(checkpoint.directory()) / "tokenizer.json").string();
  const std::string tokenizer = options.tokenizer.empty() ? beside : options.tokenizer;
  return {{"program", report.program},
          {"source", report.source},
          {"recipe", report.recipe},
          {"state_key", options.checkpoint.state_key},
          {"calibration", calibration},
          {"tokenizer", fs::exists(tokenizer) ? file_identity(tokenizer) : Json(nullptr)},
          {"token_dtype", options.token_dtype},
          {"text_field", options.text_field},
          {"seed", options.seed},
          {"device", options.device.str()}};
}

std::string identity_difference(const Json& there, const Json& here) {
  std::vector<std::string> found;
  collect(&there, &here, "", found);
  std::string text;
  for (size_t i = 0; i < std::min(found.size(), kMostDifferences); ++i) {
    text += (i == 0 ? "" : "; ") + found[i];
  }
  if (found.size() > kMostDifferences) {
    text += "; and " + std::to_string(found.size() - kMostDifferences) + " more";
  }
  return text;
}

}  // namespace ptq
