#include "ptq/artifact/companions.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "ptq/base/file.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostBytes = size_t{1} << 28;
constexpr size_t kMostTemplates = 64;
constexpr const char* kTokenizer = "tokenizer.json";
constexpr const char* kTemplates = "additional_chat_templates";

// "LICENSE", "LICENSE.txt", "Notice_third_party.md".
bool is_licence(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string stem : {"license", "licence", "notice", "copying", "use_policy"}) {
    if (!lower.starts_with(stem)) continue;
    if (lower.size() == stem.size() || std::string_view("._-").find(lower[stem.size()]) != std::string::npos)
      return true;
  }
  return false;
}

bool is_companion(const std::string& name) {
  const std::vector<std::string> exact = {"added_tokens.json",
                                          "special_tokens_map.json",
                                          "vocab.json",
                                          "vocab.txt",
                                          "merges.txt",
                                          "generation_config.json",
                                          "tekken.json",
                                          "spiece.model",
                                          "sentencepiece.bpe.model"};
  return std::find(exact.begin(), exact.end(), name) != exact.end() || name.starts_with("tokenizer") ||
         name.starts_with("chat_template") || name.ends_with(".tiktoken") || is_licence(name);
}

// Whether a link in `directory` leads to a part of the model: to a file of the folder, to a blob of the cache
// that the folder is a snapshot of, or to a file of the same name.
bool leads_to_the_model(const fs::path& link, const fs::path& directory) {
  const fs::path target = fs::canonical(link);
  const auto [rest, unused] = std::mismatch(directory.begin(), directory.end(), target.begin(), target.end());
  return rest == directory.end() || target.parent_path().filename() == "blobs" ||
         target.filename() == link.filename();
}

// Empty if `path` is to be copied.
std::string why_not(const fs::path& path, const fs::path& directory) {
  std::error_code failed;
  const bool link = fs::is_symlink(fs::symlink_status(path));
  if (link && !fs::exists(path, failed)) return "is a dangling link";
  if (fs::file_size(path, failed) > kMostBytes && !failed)
    return "has more than " + std::to_string(kMostBytes) + " bytes";
  // The tokenizer has been read as one.
  if (link && path.filename() != kTokenizer && !leads_to_the_model(path, directory))
    return "is a link to " + fs::canonical(path).string() + ", which is no part of the model";
  return "";
}

}  // namespace

std::map<std::string, std::string> companion_files(const std::string& source_directory,
                                                   const std::string& tokenizer_path,
                                                   std::vector<std::string>& warnings) {
  std::map<std::string, std::string> files;
  std::error_code failed;
  const fs::path directory = fs::canonical(source_directory, failed);
  const auto consider = [&](const fs::directory_entry& entry, const std::string& name) {
    std::error_code ignored;
    if (!entry.is_symlink(ignored) && !entry.is_regular_file(ignored)) return;
    if (entry.is_directory(ignored)) return;
    const std::string reason = why_not(entry.path(), directory);
    if (!reason.empty()) {
      warnings.push_back(name + " is not copied: it " + reason);
    } else if (entry.is_regular_file(ignored)) {
      files[name] = entry.path().string();
    }
  };
  for (const auto& entry : fs::directory_iterator(directory, failed)) {
    const std::string name = entry.path().filename().string();
    const bool replaced = name == kTokenizer && !tokenizer_path.empty();
    if (is_companion(name) && !replaced) consider(entry, name);
  }
  if (fs::is_directory(fs::symlink_status(directory / kTemplates))) {
    size_t count = 0;
    for (const auto& entry : fs::directory_iterator(directory / kTemplates, failed)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".jinja")) continue;
      if (++count > kMostTemplates) {
        warnings.push_back(std::string(kTemplates) + " has more than " + std::to_string(kMostTemplates) +
                           " templates: the rest is not copied");
        break;
      }
      consider(entry, std::string(kTemplates) + "/" + name);
    }
  }
  if (!tokenizer_path.empty()) files[kTokenizer] = tokenizer_path;
  return files;
}

void copy_companions(const std::map<std::string, std::string>& files, OutputDirectory& output) {
  for (const auto& [name, from] : files) {
    const std::string parent = fs::path(name).parent_path().string();
    if (!parent.empty()) output.make_directory(parent);
    write_file(output.path(name), read_file(from, kMostBytes));
  }
}

}  // namespace ptq
