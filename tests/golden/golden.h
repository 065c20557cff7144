// What golden runners share: where the reference data lies and which case files there are.
//
// A runner is a plain program. It runs every case that its folder holds, prints what it skips, and fails if
// it ran none: a missing folder must not look like success.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace ptq::golden {

// $PTQ_GOLDEN_DIR/NAME, by default the folder NAME beside the runner's source.
inline std::filesystem::path directory(const std::string& name) {
  const char* chosen = std::getenv("PTQ_GOLDEN_DIR");
  return std::filesystem::path(chosen != nullptr && *chosen != '\0' ? chosen : PTQ_TEST_DIR) / name;
}

// The *.json files of a directory in the order of their names, without index.json. Empty if there is no
// directory.
inline std::vector<std::filesystem::path> case_files(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const auto& path = entry.path();
    if (path.extension() == ".json" && path.filename() != "index.json") files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace ptq::golden
