// quantize verify DIR: reads an output again, and compares it with its source.
#include "commands.h"
#include "ptq/base/error.h"
#include "ptq/export/formats.h"
#include "ptq/report/report.h"
#include "ptq/verify/verify.h"

namespace ptq {
namespace {

Json result_json(const VerifyOptions& options, const Verification& found) {
  Json findings = Json::array();
  for (const Finding& finding : found.findings)
    findings.push_back({{"where", finding.where}, {"what", finding.what}});
  Json against;
  if (found.compared) {
    against = {{"path", options.source},
               {"within_half_step", found.within_half_step},
               {"by_sqnr", found.by_sqnr},
               {"equal", found.equal},
               {"largest_error_steps", found.largest_error_steps},
               {"largest_sqnr_difference_db", found.largest_sqnr_difference_db}};
  }
  return {{"path", options.directory},
          {"files", found.files},
          {"bytes", found.bytes},
          {"tensors", found.tensors},
          {"weights_in_codes", found.weights_in_codes},
          {"weights_in_float", found.weights_in_float},
          {"sites", found.sites},
          {"against", against},
          {"differences", findings}};
}

std::string result_text(const VerifyOptions& options, const Verification& found) {
  if (!found.findings.empty()) {
    std::string text;
    for (const Finding& finding : found.findings) text += finding.where + ": " + finding.what + "\n";
    return text;
  }
  std::string text = options.directory + ": no difference\n";
  const auto line = [&](const std::string& what, int64_t count, const std::string& how) {
    text += "  " + what + std::string(20 - what.size(), ' ') + std::to_string(count) + ", " + how + "\n";
  };
  line("files", found.files, format_bytes(found.bytes) + ", with their checksums");
  line("tensors", found.tensors, "each byte of the files in one");
  line("weights in codes", found.weights_in_codes, "codes, scales and zero points in range");
  line("weights in float", found.weights_in_float, "finite");
  line("sites", found.sites, "transforms orthogonal, scales positive");
  if (!found.compared) return text;
  text += "against " + options.source + "\n";
  if (found.within_half_step > 0) {
    line("rounded plainly", found.within_half_step,
         "values at most " + format_number(found.largest_error_steps, 3) + " steps away");
  }
  if (found.by_sqnr > 0) line("rounded otherwise", found.by_sqnr, "with the errors that the report states");
  line("kept in float", found.equal, "the source's values");
  return text;
}

}  // namespace

void verify_command(const VerifyOptions& options, const CommonOptions& common) {
  if (const FormatEntry* format = find_foreign_format(options.directory); format != nullptr) {
    throw Error(options.directory,
                std::string("is ") + format->name + ", and verify reads what a run of this program writes",
                "`quantize diff` of the run's output and this, or sha256sum -c SHA256SUMS");
  }
  const Verification found = verify_artifact(options.directory, options.source, common.checkpoint);
  print(common.json ? result_json(options, found).dump(1) + "\n" : result_text(options, found));
  if (found.findings.empty()) return;
  throw Error(
      options.directory,
      std::to_string(found.findings.size()) + (found.findings.size() == 1 ? " difference" : " differences"),
      "", ExitCode::kDiffers);
}

}  // namespace ptq
