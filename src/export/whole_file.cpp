#include "export/whole_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/export/formats.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnfinished = "/unfinished";

std::string make_temporary(const std::string& path) {
  const fs::path file = fs::absolute(path);
  const std::string name = "." + file.filename().string() + "." + std::to_string(::getpid()) + ".partial";
  const fs::path folder = file.parent_path() / name;
  std::error_code failed;
  fs::create_directory(folder, failed);
  if (failed) throw Error(path, "cannot be written: " + failed.message(), "another -o");
  return folder.string();
}

}  // namespace

WholeFile::WholeFile(const std::string& path) : path_(path) {
  expect_absent(path);
  temporary_ = make_temporary(path);
  remove_on_signal_ = std::make_unique<RemoveOnSignal>(temporary_);
  file_.emplace(temporary_ + kUnfinished);
}

WholeFile::~WholeFile() {
  if (temporary_.empty()) return;
  std::error_code ignored;
  file_.reset();
  fs::remove_all(temporary_, ignored);
}

void WholeFile::commit() {
  bytes_ = file_->offset();
  file_->close();
  expect_absent(path_);
  if (::rename((temporary_ + kUnfinished).c_str(), path_.c_str()) != 0)
    throw Error(path_, std::string("cannot rename the finished file: ") + std::strerror(errno));
  file_.reset();
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  remove_on_signal_.reset();
  flush_directory(fs::absolute(path_).parent_path().string());
  temporary_.clear();
}

}  // namespace ptq
