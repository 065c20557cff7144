#include "exports_of_run.h"

#include <algorithm>
#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/pipeline/plan.h"

namespace ptq {
namespace {

// Beside the output, whether that is named "out" or "out/".
std::string path_beside(const std::string& output, const std::string& suffix) {
  const std::filesystem::path path = std::filesystem::path(output).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).string() + suffix;
}

}  // namespace

std::vector<ExportOfRun> exports_of_run(const std::vector<std::string>& formats, const RunOptions& options,
                                        const Recipe& recipe) {
  std::vector<ExportOfRun> exports;
  for (const std::string& name : formats) {
    const FormatEntry& format = find_format(name);
    const bool again = std::any_of(exports.begin(), exports.end(),
                                   [&](const ExportOfRun& other) { return other.format == &format; });
    if (again) throw usage_error("--format", name + " is named twice", "each format once");
    exports.push_back({&format, {path_beside(options.output, format.suffix), export_options(format, {})}});
  }
  if (exports.empty()) return exports;
  const OpenModel planned = planned_output(options, recipe);
  for (const ExportOfRun& wanted : exports) {
    const std::string reason = wanted.format->why_not(planned, wanted.target);
    if (!reason.empty()) throw Error("--format " + std::string(wanted.format->name), reason);
    expect_absent(wanted.target.output);
  }
  return exports;
}

}  // namespace ptq
