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
          {"checksums", found.has_checksums},
          {"tensors", found.tensors},
          {"weights_in_codes", found.weights_in_codes},
          {"weights_in_float", found.weights_in_float},
          {"sites", found.sites},
          {"against", against},
          {"differences", findings}};
}

std::string findings_text(const Verification& found) {
  std::string text;
  for (const Finding& finding : found.findings) text += finding.where + ": " + finding.what + "\n";
  return text;
}

std::string line(const std::string& what, int64_t count, const std::string& how) {
  return "  " + what + std::string(20 - what.size(), ' ') + std::to_string(count) + ", " + how + "\n";
}

std::string files_line(const Verification& found) {
  return line("files", found.files,
              format_bytes(found.bytes) +
                  (found.has_checksums ? ", with their checksums" : ", which have no checksums"));
}

std::string export_text(const VerifyOptions& options, const FormatEntry& format, const Verification& found) {
  std::string text = options.directory + ": " + format.name + ", nothing wrong\n" + files_line(found) +
                     line("tensors", found.tensors, "each read") +
                     line("weights in codes", found.weights_in_codes, "decoded, finite") +
                     line("weights in float", found.weights_in_float, "finite");
  if (found.sites > 0) text += line("sites", found.sites, "that round, with the scales they need");
  return text;
}

std::string result_text(const VerifyOptions& options, const Verification& found) {
  std::string text = options.directory + ": no difference\n" + files_line(found);
  text += line("tensors", found.tensors, "each byte of the files in one");
  text += line("weights in codes", found.weights_in_codes, "codes, scales and zero points in range");
  text += line("weights in float", found.weights_in_float, "finite");
  text += line("sites", found.sites, "transforms orthogonal, scales positive");
  if (!found.compared) return text;
  text += "against " + options.source + "\n";
  if (found.within_half_step > 0) {
    text += line("rounded plainly", found.within_half_step,
                 "values at most " + format_number(found.largest_error_steps, 3) + " steps away");
  }
  if (found.by_sqnr > 0)
    text += line("rounded otherwise", found.by_sqnr, "with the errors that the report states");
  text += line("kept in float", found.equal, "the source's values");
  return text;
}

}  // namespace

void verify_command(const VerifyOptions& options, const CommonOptions& common) {
  const FormatEntry* format = find_foreign_format(options.directory);
  if (format != nullptr && !options.source.empty()) {
    throw usage_error("--source",
                      std::string("what is compared with a source is the output of a run, and ") +
                          options.directory + " is " + format->name,
                      "`quantize diff` of the two");
  }
  const Verification found = format != nullptr
                                 ? verify_export(options.directory, *format, common.checkpoint)
                                 : verify_artifact(options.directory, options.source, common.checkpoint);
  print(common.json               ? result_json(options, found).dump(1) + "\n"
        : !found.findings.empty() ? findings_text(found)
        : format != nullptr       ? export_text(options, *format, found)
                                  : result_text(options, found));
  if (found.findings.empty()) return;
  throw Error(
      options.directory,
      std::to_string(found.findings.size()) + (found.findings.size() == 1 ? " difference" : " differences"),
      "", ExitCode::kDiffers);
}

}  // namespace ptq
