// Verdicts as text, JSON, JUnit XML and GitHub's workflow commands.
#include "ptq/report/check.h"
#include "report/escape.h"

namespace ptq {
namespace {

constexpr size_t kMostLayers = 20;  // named in a message; --json has all

std::string layer_text(const FailedLayer& layer) {
  return layer.name + " " +
         (layer.value_db ? format_number(*layer.value_db, 2) + " dB" : std::string("has no output SQNR")) +
         ", at least " + format_number(layer.limit_db, 2) + " dB";
}

// One line a layer.
std::string layer_lines(const Verdict& verdict, const std::string& indent) {
  std::string lines;
  for (size_t i = 0; i < std::min(kMostLayers, verdict.layers.size()); ++i)
    lines += indent + layer_text(verdict.layers[i]) + "\n";
  if (verdict.layers.size() > kMostLayers)
    lines += indent + "and " + std::to_string(verdict.layers.size() - kMostLayers) + " more\n";
  return lines;
}

// The escapes of a workflow command's message; its properties need two more.
std::string escape_command(const std::string& text, bool property) {
  std::string escaped;
  for (const char c : text) {
    if (c == '%') {
      escaped += "%25";
    } else if (c == '\r') {
      escaped += "%0D";
    } else if (c == '\n') {
      escaped += "%0A";
    } else if (property && c == ':') {
      escaped += "%3A";
    } else if (property && c == ',') {
      escaped += "%2C";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

Json number_or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

}  // namespace

std::string check_text(const std::vector<Verdict>& verdicts) {
  size_t width = 0;
  for (const Verdict& verdict : verdicts) width = std::max(width, verdict.threshold.size());
  std::string text;
  for (const Verdict& verdict : verdicts) {
    text += (verdict.met ? "ok    " : "MISS  ") + verdict.threshold +
            std::string(width - verdict.threshold.size() + 2, ' ') + verdict.text + "\n";
    text += layer_lines(verdict, "        ");
  }
  const int64_t missed = count_missed(verdicts);
  return text + std::to_string(verdicts.size()) + (verdicts.size() == 1 ? " threshold, " : " thresholds, ") +
         (missed == 0 ? "all met" : std::to_string(missed) + " missed") + "\n";
}

Json check_json(const std::vector<Verdict>& verdicts, const std::string& report,
                const std::string& baseline) {
  Json thresholds = Json::array();
  for (const Verdict& verdict : verdicts) {
    Json layers = Json::array();
    for (const FailedLayer& layer : verdict.layers) {
      layers.push_back(
          {{"name", layer.name}, {"value_db", number_or_null(layer.value_db)}, {"limit_db", layer.limit_db}});
    }
    thresholds.push_back({{"threshold", verdict.threshold},
                          {"met", verdict.met},
                          {"text", verdict.text},
                          {"value", number_or_null(verdict.value)},
                          {"limit", number_or_null(verdict.limit)},
                          {"layers", layers}});
  }
  return {{"report", report},
          {"baseline", baseline.empty() ? Json(nullptr) : Json(baseline)},
          {"passed", count_missed(verdicts) == 0},
          {"thresholds", thresholds}};
}

std::string junit_xml(const std::vector<Verdict>& verdicts, const std::string& name) {
  const std::string counts = "tests=\"" + std::to_string(verdicts.size()) + "\" failures=\"" +
                             std::to_string(count_missed(verdicts)) + "\" errors=\"0\"";
  const std::string suite = escape_markup(name);
  std::string xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites " + counts +
                    ">\n <testsuite name=\"" + suite + "\" " + counts + " skipped=\"0\" time=\"0\">\n";
  for (const Verdict& verdict : verdicts) {
    xml += "  <testcase classname=\"" + suite + "\" name=\"" + escape_markup(verdict.threshold) +
           "\" time=\"0\"";
    if (verdict.met) {
      xml += "/>\n";
      continue;
    }
    xml += ">\n   <failure type=\"threshold\" message=\"" + escape_markup(verdict.text) + "\">" +
           escape_markup(verdict.text + "\n" + layer_lines(verdict, "")) + "</failure>\n  </testcase>\n";
  }
  return xml + " </testsuite>\n</testsuites>\n";
}

std::string github_annotations(const std::vector<Verdict>& verdicts, const std::string& name) {
  std::string lines;
  for (const Verdict& verdict : verdicts) {
    if (verdict.met) continue;
    std::string message = verdict.threshold + ": " + verdict.text + "\n" + layer_lines(verdict, "");
    message.pop_back();
    lines += "::error title=" + escape_command("quantize check " + name, /*property=*/true) +
             "::" + escape_command(message, /*property=*/false) + "\n";
  }
  return lines;
}

}  // namespace ptq
