// The options of check, diff and report.
#include <memory>

#include "ptq/report/check.h"
#include "report_commands.h"

namespace ptq {

std::function<void()> declare_check(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<CheckOptions>();
  app.add_option("REPORT", options->report, "a report.json, or the output directory it lies in")->required();
  app.add_option("--baseline", options->baseline,
                 "the report to compare with. With it and no threshold: --max-perplexity-increase 1% "
                 "--max-sqnr-drop-db 1 --max-size-increase 1% --require '/fallbacks <= baseline'")
      ->type_name("REPORT");
  const std::vector<ThresholdOption>& table = threshold_options();
  options->values.resize(table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    app.add_option(table[i].name, options->values[i], table[i].description)
        ->type_name(table[i].value_form)
        ->take_all()
        ->allow_extra_args(false);
  }
  app.add_option("--junit", options->junit, "also write the verdicts as JUnit XML")->type_name("FILE");
  app.add_flag("--annotate", options->annotate, "print GitHub annotations (::error ...) too");
  app.add_flag("--force", options->force, "replace the file of --junit if it exists");
  return [options, &common] { check_command(*options, common); };
}

std::function<void()> declare_diff(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<DiffOptions>();
  app.add_option("A", options->a, "a checkpoint, float or quantized by this program; or a report.json")
      ->required();
  app.add_option("B", options->b, "what to compare it with: the same kind")->required();
  return [options, &common] { diff_command(*options, common); };
}

std::function<void()> declare_report(CLI::App& app, CommonOptions& common) {
  auto options = std::make_shared<ReportOptions>();
  app.add_option("REPORT", options->report, "a report.json, or the output directory it lies in")->required();
  app.add_option("--html", options->html, "write one self-contained page instead of text on stdout")
      ->type_name("FILE");
  app.add_flag("--force", options->force, "replace the file of --html if it exists");
  return [options, &common] { report_command(*options, common); };
}

}  // namespace ptq
