#include "ptq/base/result_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/base/output.h"
#include "ptq/base/shell.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

// Removes the unfinished file unless it has been renamed.
struct Unfinished {
  std::string path;
  ~Unfinished() { ::unlink(path.c_str()); }
};

}  // namespace

void expect_writable_result(const std::string& path, bool force) {
  std::error_code failed;
  const fs::path file(path);
  if (!file.has_filename()) throw usage_error(path, "is not a name for a file");
  const fs::path directory = file.has_parent_path() ? file.parent_path() : fs::path(".");
  if (!fs::is_directory(directory, failed)) {
    throw Error(path, directory.string() + " is not a directory",
                "mkdir -p " + shell_word(directory.string()));
  }
  if (is_file_of_output(directory.string(), file.filename().string()))
    throw Error(path, "is a file of a quantized output", "another name");
  const fs::file_status status = fs::symlink_status(file, failed);
  if (!fs::exists(status)) return;
  if (!fs::is_regular_file(status)) throw Error(path, "exists and is not a regular file", "another name");
  if (!force) throw Error(path, "already exists", "--force to replace it, or another name");
}

void write_result(const std::string& path, std::string_view text, bool force) {
  expect_writable_result(path, force);
  const fs::path file(path);
  const std::string name = "." + file.filename().string() + "." + std::to_string(::getpid()) + ".partial";
  const std::string temporary = (file.parent_path() / name).string();
  const Unfinished unfinished{temporary};
  write_file(temporary, text);
  // Two names of one file, then the first goes: unlike a rename this fails if somebody has made the file
  // meanwhile. Where a file system has no links, the check above must do.
  if (!force) {
    if (::link(temporary.c_str(), path.c_str()) == 0) return;
    if (errno == EEXIST) throw Error(path, "was made by somebody else meanwhile", "another name");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    throw Error(path, std::string("cannot rename the finished file: ") + std::strerror(errno));
}

}  // namespace ptq
