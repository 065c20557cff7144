// The top of the page, and the parts about the run: recipe, time, files.
#include <fmt/format.h>

#include <cmath>

#include "report/arrange.h"
#include "report/escape.h"
#include "report/html_parts.h"

namespace ptq {
namespace {

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? escape_markup(found->get<std::string>()) : "";
}

// Of a whole number, as the reader of reports has checked; 0 if it is absent.
int64_t integer_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<int64_t>() : 0;
}

// `what` and `more` may hold markup; they are escaped by the caller.
std::string card(const std::string& what, const std::string& value, const std::string& more) {
  return "<div class=\"card\"><div class=\"what\">" + what + "</div><div class=\"value\">" + value +
         "</div><div class=\"more\">" + more + "</div></div>\n";
}

std::string quality_cards(const Quality& quality) {
  const double ratio = quality.perplexity_quantized / quality.perplexity_float;
  std::string cards =
      card("perplexity",
           format_number(quality.perplexity_float, 3) + " &#8594; " +
               format_number(quality.perplexity_quantized, 3),
           (std::isfinite(ratio) ? fmt::format("{:+.2f} %, ", (ratio - 1) * 100) : std::string()) +
               fmt::format("{} tokens of {}", quality.tokens, escape_markup(quality.text)));
  cards +=
      card("divergence from the float model", fmt::format("{:.3g}", quality.mean_kl), "KL, nats a token");
  return cards + card("same most likely token", format_number(quality.top1_agreement * 100, 2) + " %",
                      "as the float model");
}

std::string worst_layer_card(const Report& report) {
  const LayerRow* worst = nullptr;
  for (const LayerRow& row : report.layers) {
    if (row.output_sqnr_db && (worst == nullptr || *row.output_sqnr_db < *worst->output_sqnr_db))
      worst = &row;
  }
  if (worst == nullptr) return "";
  return card("worst layer", format_number(*worst->output_sqnr_db, 1) + " dB", breakable(worst->name));
}

std::string remark_list(const char* title, const std::vector<std::string>& items) {
  if (items.empty()) return "";
  std::string html = fmt::format("<strong>{}</strong>\n<ul>\n", title);
  for (const std::string& item : items) html += "<li>" + escape_markup(item) + "</li>\n";
  return html + "</ul>\n";
}

// A table row with a bar of `share` (0 to 1) at its end.
std::string metered_row(const std::string& name, const std::string& value, double share) {
  return fmt::format(
      "<tr><td class=\"wrap\">{}</td><td>{}</td><td class=\"meter\"><span class=\"track\"><span "
      "style=\"width: {:.1f}%\"></span></span></td></tr>\n",
      escape_markup(name), value, std::clamp(share, 0.0, 1.0) * 100);
}

std::string option_text(const Json& step) {
  std::string text;
  for (const auto& [key, value] : step.items()) {
    if (key == "step") continue;
    const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    text += (text.empty() ? "" : "  ") + key + "=" + shown;
  }
  return text;
}

std::string files_table(const Report& report) {
  double most = 0;
  for (const auto& [name, bytes] : report.output_files) most = std::max(most, static_cast<double>(bytes));
  std::string html = "<div class=\"wide\"><table><tr><th>file</th><th>size</th><th></th></tr>\n";
  for (const auto& [name, bytes] : report.output_files) {
    html += metered_row(name, format_bytes(bytes), most > 0 ? static_cast<double>(bytes) / most : 0);
  }
  return html + "</table></div>\n";
}

std::string times_table(const Report& report) {
  double total = 0;
  for (const auto& [stage, elapsed_ms] : report.time_ms) total += std::max(elapsed_ms, 0.0);
  std::string html = "<div class=\"wide\"><table><tr><th>stage</th><th>seconds</th><th></th></tr>\n";
  for (const auto& [stage, elapsed_ms] : report.time_ms) {
    html += metered_row(stage, format_number(elapsed_ms / 1000, elapsed_ms < 10'000 ? 2 : 0),
                        total > 0 ? elapsed_ms / total : 0);
  }
  return html + "</table></div>\n";
}

}  // namespace

std::string breakable(const std::string& name) {
  std::string html;
  for (const char c : escape_markup(name)) {
    html += c;
    if (c == '.') html += "<wbr/>";
  }
  return html;
}

std::string number_or_dash(const std::optional<double>& value, int digits) {
  return value && std::isfinite(*value) ? format_number(*value, digits) : "-";
}

std::string cards_section(const Report& report) {
  std::string html = "<section class=\"cards\">\n";
  html += report.quality ? quality_cards(*report.quality)
                         : card("output quality", "not measured", "--eval-text or --calib asks for it");
  const auto source_bytes = static_cast<double>(integer_of(report.source, "bytes"));
  const auto output_bytes = static_cast<double>(report.output_bytes);
  html +=
      card("weight files",
           format_bytes(integer_of(report.source, "bytes")) + " &#8594; " + format_bytes(report.output_bytes),
           source_bytes > 0 ? fmt::format("{:.3f} of the source", output_bytes / source_bytes) : "");
  html += card("bits a weight", number_or_dash(report.bits_per_weight, 2), "scales and embedding included");
  html += worst_layer_card(report);
  double total_ms = 0;
  for (const auto& [stage, elapsed_ms] : report.time_ms) total_ms += elapsed_ms;
  html += card("the run took", format_number(total_ms / 1000, 1) + " s",
               "peak memory " + format_bytes(report.peak_rss_bytes));
  return html + "</section>\n";
}

std::string remarks_section(const Report& report) {
  if (report.fallbacks.empty() && report.decisions.empty() && report.warnings.empty()) return "";
  const auto lines = [](const std::vector<Remark>& remarks) {
    std::vector<std::string> list;
    for (const auto& [row, count] : group_remarks(remarks)) list.push_back(remark_line(row, count));
    return list;
  };
  return "<section class=\"remarks\">\n" +
         remark_list(fmt::format("Not as asked: {}", report.fallbacks.size()).c_str(),
                     lines(report.fallbacks)) +
         remark_list(fmt::format("Decisions: {}", report.decisions.size()).c_str(), lines(report.decisions)) +
         remark_list(fmt::format("Warnings: {}", report.warnings.size()).c_str(), report.warnings) +
         "</section>\n";
}

std::string recipe_section(const Report& report) {
  std::string html = "<section>\n<h2>Recipe</h2>\n<p>" + text_of(report.recipe, "method") + " " +
                     text_of(report.recipe, "bits") + ", embedding " + text_of(report.recipe, "embedding");
  if (report.calibration.empty()) {
    html += ". It needs no calibration, and no text was given.</p>\n";
  } else {
    html += fmt::format(
        ". Calibrated on {}: {} windows of {} tokens, {} held out for choices and measurements.</p>\n",
        text_of(report.calibration, "source"), integer_of(report.calibration, "samples"),
        integer_of(report.calibration, "seq_len"), integer_of(report.calibration, "kept_aside"));
  }
  const auto steps = report.recipe.find("steps");
  if (steps != report.recipe.end() && steps->is_array()) {
    html += "<div class=\"wide\"><table><tr><th>step</th><th class=\"text\">options</th></tr>\n";
    for (const Json& step : *steps) {
      html += "<tr><td>" + text_of(step, "step") + "</td><td class=\"text wrap\"><code>" +
              escape_markup(option_text(step)) + "</code></td></tr>\n";
    }
    html += "</table></div>\n";
  }
  const auto skip = report.recipe.find("skip");
  if (skip != report.recipe.end() && skip->is_array() && !skip->empty())
    html += "<p>Skipped: <code>" + escape_markup(skip->dump()) + "</code></p>\n";
  if (!report.loads_in.empty())
    html += "<p>Once exported it loads in " + escape_markup(loads_in_text(report)) + ".</p>\n";
  return html + "</section>\n";
}

std::string costs_section(const Report& report) {
  return "<section>\n<h2>Time and files</h2>\n<div class=\"panels\">\n<div>" + times_table(report) +
         "</div>\n<div>" + files_table(report) + "</div>\n</div>\n</section>\n";
}

}  // namespace ptq
