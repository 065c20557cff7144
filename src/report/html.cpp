#include "ptq/report/html.h"

#include <fmt/format.h>

#include "report/escape.h"
#include "report/html_parts.h"

namespace ptq {
namespace {

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? escape_markup(found->get<std::string>()) : "";
}

std::string header(const Report& report) {
  const auto parameters = report.source.find("parameters");
  std::string html = "<header>\n<h1>" + text_of(report.source, "name") + ", " +
                     text_of(report.recipe, "method") + " " + text_of(report.recipe, "bits") +
                     "</h1>\n<div class=\"muted\">" + text_of(report.source, "architecture");
  if (parameters != report.source.end() && parameters->is_number())
    html += fmt::format(", {:.4g} million parameters", parameters->get<double>() / 1e6);
  html += ", from " + text_of(report.source, "dtype") + ", ";
  html += report.calibration.empty() ? "not calibrated"
                                     : "calibrated on " + text_of(report.calibration, "source");
  return html + "</div>\n</header>\n";
}

std::string footer(const Report& report) {
  std::string html = "<footer>\nWritten by quantize " + text_of(report.program, "version") + " (commit " +
                     text_of(report.program, "git") + ", libtorch " + text_of(report.program, "torch") +
                     ", " + text_of(report.program, "isa") + ")";
  const auto files = report.source.find("files");
  if (files != report.source.end() && files->is_object()) {
    for (const auto& [name, hash] : files->items()) {
      html += "<br/>source " + escape_markup(name) + ", SHA-256 <code>" +
              escape_markup(hash.is_string() ? hash.get<std::string>() : "") + "</code>";
    }
  }
  return html + "\n</footer>\n";
}

}  // namespace

std::string html_page(const StoredReport& stored) {
  const Report& report = stored.report;
  const std::string title = text_of(report.source, "name") + ", " + text_of(report.recipe, "method") + " " +
                            text_of(report.recipe, "bits") + ": report of quantize";
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta name=\"viewport\" "
         "content=\"width=device-width, initial-scale=1\"/>\n<title>" +
         title + "</title>\n<style>" + html_style() + "</style>\n</head>\n<body>\n<main>\n" + header(report) +
         cards_section(report) + remarks_section(report) + layers_section(report) + error_section(report) +
         corrections_section(report) + sites_section(report) + recipe_section(report) +
         costs_section(report) + footer(report) + "</main>\n</body>\n</html>\n";
}

}  // namespace ptq
