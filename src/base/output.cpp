#include "ptq/base/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/json.h"
#include "ptq/base/shell.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

// Bytes a write() call is given at most, so that a signal is noticed in the middle of a large tensor.
constexpr size_t kPieceBytes = size_t{64} << 20;

std::string reason(int error) {
  return std::strerror(error);
}

// Flushes a file or directory by name. Returns 0 or errno.
int flush_path(const std::string& path) noexcept {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  // Some network file systems cannot flush a directory.
  if (error == EINVAL) error = 0;
  return error;
}

void expect_flushed(const std::string& path) {
  const int error = flush_path(path);
  if (error != 0) throw passing_error(path, "cannot flush to disk: " + reason(error), write_hint(error));
}

// The parent is resolved, so that a later chdir() changes nothing and `a/..` means what the kernel means by
// it.
std::string absolute_path(const std::string& typed) {
  fs::path path(typed);
  while (!path.empty() && !path.has_filename()) {
    if (path == path.parent_path()) break;
    path = path.parent_path();
  }
  const std::string name = path.filename().string();
  if (name.empty() || name == "." || name == "..") {
    throw usage_error(typed.empty() ? "output" : typed, "is not a name for an output directory", "-o NAME");
  }
  std::error_code failed;
  const fs::path parent = fs::canonical(path.has_parent_path() ? path.parent_path() : fs::path("."), failed);
  if (failed) {
    throw Error(typed, "the parent directory cannot be used: " + failed.message(),
                "mkdir -p " + shell_word(path.parent_path().string()));
  }
  if (!fs::is_directory(parent, failed)) throw Error(parent.string(), "is not a directory");
  return (parent / name).string();
}

// Whether a JSON file of at most a few megabytes says that this program wrote it. A file that cannot be
// parsed is somebody else's.
bool names_us(const std::string& path, bool (*test)(const Json&)) {
  try {
    std::vector<std::string> repeated;
    return test(read_python_json_file(path, {}, repeated));
  } catch (const Error&) {
    return false;
  }
}

bool written_by_us(const std::string& directory) {
  return names_us(directory + "/config.json",
                  [](const Json& json) {
                    return json.is_object() && json.contains("quantization_config") &&
                           json["quantization_config"].is_object() &&
                           json["quantization_config"].value("quant_method", Json()) == "ptq";
                  }) ||
         names_us(directory + "/report.json", [](const Json& json) {
           return json.is_object() && json.contains("program") && json["program"].is_object() &&
                  json["program"].value("name", Json()) == "quantize";
         });
}

bool lists(const std::string& sums, const std::string& name) {
  return ("\n" + sums).find("  " + name + "\n") != std::string::npos;
}

// A plain name, or one in a subdirectory: "a", "a/b".
[[maybe_unused]] bool is_name_in_output(const std::string& file) {
  const fs::path name(file);
  const auto parts = std::distance(name.begin(), name.end());
  return std::all_of(name.begin(), name.end(),
                     [](const fs::path& part) { return !part.empty() && part != "." && part != ".."; }) &&
         name.is_relative() && (parts == 1 || parts == 2);
}

// Throws unless --force may remove what is there.
void expect_replaceable(const std::string& path) {
  const std::string hint = "another -o, or move it away";
  const fs::file_status status = fs::symlink_status(path);
  if (fs::is_symlink(status))
    throw passing_error(path, "is a symbolic link, which --force does not replace", hint);
  if (!fs::is_directory(status))
    throw passing_error(path, "is not a directory, and --force replaces only outputs", hint);
  if (fs::is_empty(path)) return;
  if (!written_by_us(path)) {
    throw passing_error(path, "was not written by this program, and --force replaces only its outputs", hint);
  }
  const bool has_sums = fs::exists(path + "/SHA256SUMS");
  const std::string sums = has_sums ? read_file(path + "/SHA256SUMS") : "";
  const OutputContents contents = list_output(path);
  std::vector<std::string> foreign = contents.others;
  for (const std::string& name : contents.files) {
    if (has_sums && name != "SHA256SUMS" && !lists(sums, name)) foreign.push_back(name);
  }
  if (foreign.empty()) return;
  throw passing_error(path, "holds \"" + foreign.front() + "\", which this program did not write", hint);
}

Error cannot_write_beside(const std::string& final_path, int error) {
  return {final_path, "cannot write beside it: " + reason(error), write_hint(error)};
}

std::string make_temporary(const std::string& final_path) {
  const fs::path path(final_path);
  const std::string stem =
      (path.parent_path() / ("." + path.filename().string())).string() + "." + std::to_string(::getpid());
  // In containers every run has the same process id, and a killed one may have left its directory.
  for (int attempt = 1; attempt <= 100; ++attempt) {
    std::string temporary = stem + (attempt == 1 ? "" : "-" + std::to_string(attempt)) + ".partial";
    if (::mkdir(temporary.c_str(), 0777) == 0) return temporary;
    if (errno != EEXIST) throw cannot_write_beside(final_path, errno);
  }
  throw Error(final_path, "100 unfinished outputs lie beside it", "rm -r " + stem + "*.partial");
}

}  // namespace

std::string write_hint(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free some space or write to another disk with -o";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f) or use a smaller --max-shard-size";
    default:
      return "";
  }
}

OutputFile::OutputFile(const std::string& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) throw passing_error(path, "cannot create: " + reason(errno), write_hint(errno));
}

OutputFile::OutputFile(const std::string& path, int64_t keep_bytes) : path_(path), offset_(keep_bytes) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
  if (fd_ < 0) throw passing_error(path, "cannot open: " + reason(errno));
  struct stat status{};
  const bool usable = ::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode);
  if (usable && status.st_size >= keep_bytes && ::ftruncate(fd_, keep_bytes) == 0) return;
  ::close(fd_);
  throw Error(path, "cannot go on at byte " + std::to_string(keep_bytes) + " of a file of " +
                        std::to_string(status.st_size));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  assert(fd_ >= 0 && "write() after close()");
  while (!bytes.empty()) {
    throw_if_interrupted();
    const ssize_t written = ::write(fd_, bytes.data(), std::min(bytes.size(), kPieceBytes));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = written == 0 ? ENOSPC : errno;
      throw passing_error(path_,
                          "cannot write " + std::to_string(bytes.size()) + " bytes at " +
                              std::to_string(offset_) + ": " + reason(error),
                          write_hint(error));
    }
    offset_ += written;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text)));
}

void OutputFile::flush() {
  assert(fd_ >= 0 && "flush() after close()");
  const int error = ::fsync(fd_) == 0 ? 0 : errno;
  // EINVAL: a pipe or device has nothing to flush.
  if (error != 0 && error != EINVAL) {
    throw passing_error(path_, "cannot flush to disk: " + reason(error), write_hint(error));
  }
}

void OutputFile::close() {
  flush();
  if (::close(std::exchange(fd_, -1)) != 0) {
    throw passing_error(path_, "cannot flush to disk: " + reason(errno), write_hint(errno));
  }
}

void write_file(const std::string& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.close();
}

void flush_directory(const std::string& path) {
  expect_flushed(path);
}

OutputContents list_output(const std::string& path) {
  OutputContents contents;
  const auto list = [&](const auto& self, const std::string& directory, const std::string& prefix) -> void {
    bool empty = true;
    for (const auto& entry : fs::directory_iterator(directory)) {
      empty = false;
      const std::string name = prefix + entry.path().filename().string();
      const fs::file_status status = entry.symlink_status();
      if (fs::is_regular_file(status)) {
        contents.files.push_back(name);
      } else if (fs::is_directory(status) && prefix.empty()) {
        self(self, entry.path().string(), name + "/");
      } else {
        contents.others.push_back(name);
      }
    }
    if (empty && !prefix.empty()) contents.others.push_back(prefix);
  };
  list(list, path, "");
  std::sort(contents.files.begin(), contents.files.end());
  std::sort(contents.others.begin(), contents.others.end());
  return contents;
}

bool is_file_of_output(const std::string& directory, const std::string& file) {
  const std::string sums = directory + "/SHA256SUMS";
  if (!fs::is_regular_file(fs::symlink_status(sums)) || !written_by_us(directory)) return false;
  return file == "SHA256SUMS" || lists(read_file(sums), file);
}

std::string output_path(const std::string& path, bool force) {
  const std::string final_path = absolute_path(path);
  // ".NAME.partial" lies beside it.
  const size_t name = fs::path(final_path).filename().string().size() + sizeof("..partial") - 1;
  if (final_path.size() + 64 >= PATH_MAX || name > NAME_MAX) throw Error(path, "the name is too long");
  const std::string parent = fs::path(final_path).parent_path().string();
  if (is_file_of_output(parent, "SHA256SUMS"))
    throw Error(path, parent + " is itself an output of this program", "another -o");
  if (fs::exists(fs::symlink_status(final_path))) {
    if (!force) throw Error(path, "already exists", "--force to replace it, or another -o");
    expect_replaceable(final_path);
  }
  return final_path;
}

std::string output_here(const std::string& name, const std::string& source) {
  std::error_code failed;
  const fs::path here = fs::current_path(failed);
  if (failed)
    throw Error("the working directory", "cannot be used: " + failed.message(), "-o with an absolute path");
  const fs::path folder = fs::canonical(source, failed);
  if (failed || !fs::is_directory(folder, failed)) return name;
  const auto [in_folder, in_here] = std::mismatch(folder.begin(), folder.end(), here.begin(), here.end());
  if (in_folder != folder.end()) return name;
  throw usage_error(name, "the default output would lie in the model's own folder",
                    "-o " + shell_word((folder.parent_path() / name).string()));
}

void check_output(const std::string& path, bool force) {
  const std::string final_path = output_path(path, force);
  const std::string parent = fs::path(final_path).parent_path().string();
  if (::access(parent.c_str(), W_OK | X_OK) != 0) throw cannot_write_beside(final_path, errno);
}

OutputDirectory::OutputDirectory(const std::string& path, bool force)
    : final_(output_path(path, force)), force_(force) {
  const SignalShield shield;
  temporary_ = make_temporary(final_);
  remove_on_signal_ = std::make_unique<RemoveOnSignal>(temporary_);
}

OutputDirectory::OutputDirectory(const std::string& path, bool force, const std::string& temporary)
    : final_(output_path(path, force)), temporary_(temporary), force_(force) {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  if (::mkdir(temporary_.c_str(), 0777) != 0) {
    throw passing_error(temporary_, "cannot be made: " + reason(errno), write_hint(errno));
  }
}

OutputDirectory::~OutputDirectory() {
  if (!committed_) discard();
}

std::string OutputDirectory::path(const std::string& file) const {
  assert(is_name_in_output(file));
  return temporary_ + "/" + file;
}

void OutputDirectory::make_directory(const std::string& name) {
  const std::string directory = path(name);
  if (::mkdir(directory.c_str(), 0777) != 0 && errno != EEXIST)
    throw passing_error(directory, "cannot be made: " + reason(errno), write_hint(errno));
}

std::vector<std::string> OutputDirectory::files() const {
  return list_output(temporary_).files;
}

void OutputDirectory::commit() {
  assert(!committed_ && "commit() twice");
  for (const std::string& file : files()) {
    throw_if_interrupted();
    expect_flushed(path(file));
  }
  for (const auto& entry : fs::directory_iterator(temporary_)) {
    if (entry.is_directory()) expect_flushed(entry.path().string());
  }
  expect_flushed(temporary_);
  throw_if_interrupted();
  {
    const SignalShield shield;
    replace();
    committed_ = true;
  }
  if (force_) discard();
  // The output is in place: a parent that cannot be opened for reading is no reason to call the run failed.
  flush_path(fs::path(final_).parent_path().string());
}

// Afterwards temporary_ names what final_ named before, if anything.
void OutputDirectory::replace() {
  const char* const from = temporary_.c_str();
  const char* const to = final_.c_str();
  const auto cannot = [&] {
    return passing_error(final_, "cannot rename the finished output: " + reason(errno));
  };
  if (::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return;
  if (errno == EEXIST && !force_)
    throw passing_error(final_, "was made by somebody else during the run", "another -o");
  if (errno == EEXIST) {
    expect_replaceable(final_);  // again: the run may have taken hours
    if (::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0) return;
  }
  if (errno != EINVAL && errno != ENOSYS) throw cannot();
  // The file system knows neither flag.
  if (!fs::exists(fs::symlink_status(final_))) {
    if (::rename(from, to) != 0) throw cannot();
    return;
  }
  if (!force_) throw passing_error(final_, "was made by somebody else during the run", "another -o");
  const fs::path path(final_);
  const std::string replaced = (path.parent_path() / ("." + path.filename().string())).string() + "." +
                               std::to_string(::getpid()) + ".replaced";
  if (::rename(to, replaced.c_str()) != 0) throw cannot();
  if (::rename(from, to) != 0) {
    const Error error = cannot();
    ::rename(replaced.c_str(), to);
    throw error;
  }
  ::rename(replaced.c_str(), from);
}

void OutputDirectory::discard() noexcept {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  remove_on_signal_.reset();
}

void write_checksums(OutputDirectory& output) {
  std::string text;
  for (const std::string& file : output.files()) text += sha256_file(output.path(file)) + "  " + file + "\n";
  write_file(output.path("SHA256SUMS"), text);
}

}  // namespace ptq
