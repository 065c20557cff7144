#include "file_roles.h"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ptq/base/error.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kWritten = {"--output", "--log-file", "--html", "--junit"};
constexpr std::array<std::string_view, 3> kReadTypes = {"FILE", "PATH", "REPORT"};
// Options that name a model, as positional arguments do.
constexpr std::array<std::string_view, 2> kModelOptions = {"--against", "--source"};
// What is read of a model's folder.
constexpr std::array<std::string_view, 5> kWeightEnds = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"};
constexpr std::array<std::string_view, 11> kTextBegins = {"config.json",
                                                          "generation_config.json",
                                                          "tokenizer",
                                                          "special_tokens_map.json",
                                                          "vocab.",
                                                          "merges.txt",
                                                          "added_tokens.json",
                                                          "chat_template",
                                                          "report.json",
                                                          "recipe.json",
                                                          "SHA256SUMS"};

struct NamedFile {
  std::string option, path;
  bool is_model = false;
};

std::string option_name(const CLI::Option& option) {
  const std::vector<std::string>& names = option.get_lnames();
  return names.empty() ? option.get_name(/*positional=*/true) : "--" + names.front();
}

bool is_positional(const CLI::Option& option) {
  return option.get_lnames().empty() && option.get_snames().empty();
}

template <size_t kCount>
bool contains(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The same file or directory by device and inode, or, while it does not exist, the same name in the same
// parent. Devices and pipes may have two roles.
bool same_file(const std::string& a, const std::string& b) {
  struct stat status_a{}, status_b{};
  const bool is_there_a = ::stat(a.c_str(), &status_a) == 0, is_there_b = ::stat(b.c_str(), &status_b) == 0;
  if (is_there_a != is_there_b) return false;
  if (is_there_a) {
    return (S_ISREG(status_a.st_mode) || S_ISDIR(status_a.st_mode)) && status_a.st_dev == status_b.st_dev &&
           status_a.st_ino == status_b.st_ino;
  }
  std::error_code failed_a, failed_b;
  const fs::path path_a = fs::weakly_canonical(a, failed_a), path_b = fs::weakly_canonical(b, failed_b);
  return !failed_a && !failed_b && path_a == path_b;
}

// Whether `file` is there and one of those that are read of the folder that the model `path` is or lies in.
bool is_read_with(const std::string& file, const std::string& path) {
  std::error_code failed;
  if (!fs::is_regular_file(file, failed)) return false;
  const bool is_folder = fs::is_directory(path, failed);
  const fs::path parent = fs::path(path).parent_path();
  const fs::path folder = is_folder ? fs::path(path) : parent.empty() ? "." : parent;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    const auto begins = [&name](std::string_view begin) { return name.starts_with(begin); };
    const auto ends = [&name](std::string_view end) { return name.ends_with(end); };
    const bool is_text = std::any_of(kTextBegins.begin(), kTextBegins.end(), begins);
    const bool is_weights = is_folder && (std::any_of(kWeightEnds.begin(), kWeightEnds.end(), ends) ||
                                          name.ends_with(".index.json"));
    if ((is_text || is_weights) && same_file(entry.path().string(), file)) return true;
  }
  return false;
}

bool lies_in(const std::string& file, const std::string& directory) {
  std::error_code failed_a, failed_b;
  const fs::path inner = fs::weakly_canonical(file, failed_a),
                 outer = fs::weakly_canonical(directory, failed_b);
  if (failed_a || failed_b) return false;
  const auto [in_outer, in_inner] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return in_outer == outer.end();
}

void refuse_empty_values(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& values = option->results();
    const bool has_empty = std::find(values.begin(), values.end(), "") != values.end();
    if (has_empty && (is_positional(*option) || option->get_type_name() != "TEXT"))
      throw usage_error(option_name(*option), "the value is empty", app.get_name() + " --help");
  }
}

}  // namespace

void check_file_roles(const CLI::App& app) {
  refuse_empty_values(app);
  std::vector<NamedFile> read, written;
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option_name(*option);
    const bool is_written = contains(kWritten, name);
    if (!is_written && !is_positional(*option) && !contains(kReadTypes, option->get_type_name())) continue;
    const bool is_model = is_positional(*option) || contains(kModelOptions, name);
    for (const std::string& path : option->results())
      (is_written ? written : read).push_back({name, path, is_model});
  }
  for (size_t i = 0; i < written.size(); ++i) {
    const NamedFile& file = written[i];
    const auto refuse = [&file](const std::string& what) {
      throw usage_error(file.option, "\"" + file.path + "\" " + what, "another name");
    };
    for (const NamedFile& input : read) {
      if (same_file(file.path, input.path)) refuse("is what " + input.option + " names, which is read");
      if (input.is_model && is_read_with(file.path, input.path))
        refuse("is a file that is read with " + input.option);
    }
    for (size_t j = 0; j < written.size(); ++j) {
      if (j == i) continue;
      if (same_file(file.path, written[j].path)) refuse("is what " + written[j].option + " names, too");
      if (written[j].option == "--output" && lies_in(file.path, written[j].path))
        refuse("lies in the directory of --output");
    }
  }
}

}  // namespace ptq
