#include "ptq/export/formats.h"

#include <algorithm>
#include <filesystem>

#include "export/rows.h"
#include "ptq/artifact/format.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

FormatEntry own_format() {
  FormatEntry entry{};
  entry.name = kQuantMethod;
  entry.description = "safetensors with integer codes; read by this program";
  entry.output = entry.suffix = "";
  entry.why_not = [](const OpenModel& artifact, const ExportTarget&) {
    return std::string(Error(artifact.checkpoint->path(), "is in this format, which every run writes",
                             "a copy of the directory, or another --format")
                           .what());
  };
  entry.is_at = [](const std::string& path) { return quant_method_at(path) == kQuantMethod; };
  entry.open = open_model;
  return entry;
}

}  // namespace

const std::vector<FormatEntry>& formats() {
  static const std::vector<FormatEntry> entries = {own_format(),  peft_format(),  compressed_tensors_format(),
                                                   gptq_format(), awq_format(),   bitsandbytes_format(),
                                                   gguf_format(), float_format(), pt_format()};
  return entries;
}

const FormatEntry& find_format(const std::string& name) {
  std::vector<std::string> exported;
  for (const FormatEntry& entry : formats()) {
    if (entry.name == name) return entry;
    if (entry.write != nullptr) exported.emplace_back(entry.name);
  }
  throw usage_error("--format", "\"" + name + "\" is not an export format", suggest(name, exported));
}

std::map<std::string, std::string> export_options(const FormatEntry& format,
                                                  const std::map<std::string, std::string>& given) {
  std::map<std::string, std::string> options;
  std::vector<std::string> names;
  for (const FormatOption& option : format.options) {
    names.push_back(std::string("--") + option.name);
    options[option.name] = option.values.empty() ? "" : option.values.front();
  }
  for (const auto& [name, value] : given) {
    if (options.contains(name)) continue;
    throw usage_error("--" + name, std::string("the format ") + format.name + " has no such option",
                      names.empty() ? "without it" : suggest("--" + name, names));
  }
  for (const FormatOption& option : format.options) {
    const auto found = given.find(option.name);
    if (found == given.end()) continue;
    const std::vector<std::string>& values = option.values;
    if (!values.empty() && std::find(values.begin(), values.end(), found->second) == values.end()) {
      throw usage_error("--" + found->first, "\"" + found->second + "\" is not " + option.meaning,
                        suggest(found->second, values));
    }
    options[option.name] = found->second;
  }
  return options;
}

const FormatEntry* find_foreign_format(const std::string& path) {
  for (const FormatEntry& entry : formats()) {
    if (entry.open != nullptr && entry.name != std::string(kQuantMethod) && entry.is_at(path)) return &entry;
  }
  return nullptr;
}

OpenModel open_any_model(const std::string& path, const CheckpointOptions& options, at::Device device) {
  const FormatEntry* format = find_foreign_format(path);
  return format != nullptr ? format->open(path, options, device) : open_model(path, options, device);
}

void expect_absent(const std::string& path) {
  if (std::filesystem::exists(std::filesystem::symlink_status(path)))
    throw Error(path, "already exists", "another -o, or move it away");
}

std::string count_text(int64_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string quant_method_at(const std::string& path) {
  std::error_code failed;
  const std::filesystem::path place(path);
  const bool is_directory = std::filesystem::is_directory(place, failed);
  const std::string file = ((is_directory ? place : place.parent_path()) / "config.json").string();
  if (!std::filesystem::is_regular_file(file, failed)) return "";
  try {
    std::vector<std::string> repeated;
    const Json config = read_python_json_file(file, {}, repeated);
    if (!config.is_object() || !config.contains("quantization_config")) return "";
    const Json& quantization = config.at("quantization_config");
    const Json method = quantization.is_object() ? quantization.value("quant_method", Json()) : Json();
    return method.is_string() ? method.get<std::string>() : "";
  } catch (const Error&) {
    return "";  // who reads it as a model says what is wrong
  }
}

}  // namespace ptq
