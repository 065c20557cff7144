// The files of an output and their checksums. SHA256SUMS covers every other file, and has one form only, so
// that each of its own bits counts too.
#include <algorithm>
#include <filesystem>

#include "ptq/base/hash.h"
#include "ptq/base/output.h"
#include "verify/parts.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSums = "SHA256SUMS";
constexpr size_t kHexDigits = 64;

void list_files(Subject& subject) {
  const OutputContents contents = list_output(subject.directory);
  for (const std::string& name : contents.others) {
    const bool link = fs::is_symlink(fs::symlink_status(subject.directory + "/" + name));
    subject.findings.add(name, link ? "is a symbolic link; an output holds only files, and it is not followed"
                                    : "is not a file; an output holds nothing else");
  }
  for (const std::string& name : contents.files)
    subject.counts.bytes += static_cast<int64_t>(fs::file_size(subject.directory + "/" + name));
  subject.files = contents.files;
  subject.counts.files = static_cast<int64_t>(subject.files.size());
}

bool is_hash(const std::string& text) {
  return text.size() == kHexDigits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Name -> hash.
std::map<std::string, std::string> parse_sums(const std::string& text, Findings& findings) {
  std::map<std::string, std::string> sums;
  size_t begin = 0;
  for (int64_t line = 1; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string hash = text.substr(begin, std::min(kHexDigits, end - begin));
    const std::string rest = text.substr(begin + hash.size(), end - begin - hash.size());
    if (!is_hash(hash) || !rest.starts_with("  ") || rest.size() < 3) {
      findings.add(kSums, "line " + std::to_string(line) + " is not a SHA-256, two spaces and a name");
    } else if (!sums.emplace(rest.substr(2), hash).second) {
      findings.add(kSums, "line " + std::to_string(line) + " names a file a second time");
    }
    begin = end + 1;
  }
  return sums;
}

void check_sums(Subject& subject) {
  Findings& findings = subject.findings;
  const size_t before = findings.size();
  const std::string text = read_file(subject.directory + "/" + kSums, size_t{1} << 24);
  std::map<std::string, std::string> sums = parse_sums(text, findings);
  std::string expected;
  for (const std::string& name : subject.files) {
    if (name == kSums) continue;
    const std::string hash = sha256_file(subject.directory + "/" + name);
    expected += hash + "  " + name + "\n";
    const auto listed = sums.find(name);
    if (listed == sums.end()) {
      findings.add(name, std::string("is not listed in ") + kSums);
      continue;
    }
    if (listed->second != hash) {
      findings.add(name, "has the SHA-256 " + hash + "; " + kSums + " says " + listed->second);
    }
    sums.erase(listed);
  }
  for (const auto& [name, hash] : sums)
    findings.add(Json(name).dump(-1, ' ', true, Json::error_handler_t::replace),
                 std::string("is listed in ") + kSums + ", but missing");
  if (findings.size() == before && text != expected) {
    findings.add(kSums, "is not the list of the files in order, a line each, as a run writes it");
  }
}

}  // namespace

void check_files(Subject& subject) {
  list_files(subject);
  if (!std::binary_search(subject.files.begin(), subject.files.end(), kSums)) {
    subject.findings.add(kSums, "is missing");
    return;
  }
  subject.findings.guard(kSums, [&] { check_sums(subject); });
}

}  // namespace ptq
