// quantize report REPORT: the numbers of a report for people, as text or as one HTML page.
#include <filesystem>

#include "ptq/base/result_file.h"
#include "ptq/report/html.h"
#include "report_commands.h"

namespace ptq {

void report_command(const ReportOptions& options, const CommonOptions& common) {
  if (!options.html.empty()) expect_writable_result(options.html, options.force);
  const StoredReport stored = read_report(options.report);
  if (options.html.empty()) {
    const std::string directory = std::filesystem::path(stored.path).parent_path().string();
    print(common.json ? stored.json.dump(1) + "\n"
                      : summary(stored.report, directory.empty() ? "." : directory) + "\n" +
                            kinds_table(stored.report));
    return;
  }
  const std::string page = html_page(stored);
  write_result(options.html, page, options.force);
  const Json json = {{"html", options.html}, {"bytes", page.size()}};
  print(common.json
            ? json.dump(1) + "\n"
            : "wrote " + options.html + ", " + format_bytes(static_cast<int64_t>(page.size())) + "\n");
}

}  // namespace ptq
