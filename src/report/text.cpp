#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "ptq/report/report.h"
#include "report/arrange.h"

namespace ptq {
namespace {

std::string percent(double ratio) {
  char text[32];
  std::snprintf(text, sizeof(text), "%+.2f %%", (ratio - 1) * 100);
  return text;
}

std::string string_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string()
             ? object[key].get<std::string>()
             : "";
}

int64_t integer_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_number() ? object[key].get<int64_t>()
                                                                               : 0;
}

// Equal remarks about many layers are one line.
std::string remark_text(const std::string& heading, const std::vector<Remark>& remarks) {
  if (remarks.empty()) return "";
  std::string text = heading + ", " + std::to_string(remarks.size()) + ":\n";
  for (const auto& [row, count] : group_remarks(remarks)) text += "  " + remark_line(row, count) + "\n";
  return text;
}

// The weakest link is where to look first when quality is not enough.
std::string worst_layer_line(const std::vector<LayerRow>& layers) {
  const LayerRow* worst = nullptr;
  for (const LayerRow& row : layers) {
    if (row.output_sqnr_db && (worst == nullptr || *row.output_sqnr_db < *worst->output_sqnr_db))
      worst = &row;
  }
  if (worst == nullptr) return "";
  return "  worst layer   " + worst->name + ", output SQNR " + format_number(*worst->output_sqnr_db, 1) +
         " dB\n";
}

// All that is known of the error where no text went through the model.
std::string weights_line(const std::vector<LayerRow>& layers) {
  std::vector<double> sqnrs_db;
  const LayerRow* worst = nullptr;
  for (const LayerRow& row : layers) {
    if (!row.weight_sqnr_db) continue;
    sqnrs_db.push_back(*row.weight_sqnr_db);
    if (worst == nullptr || *row.weight_sqnr_db < *worst->weight_sqnr_db) worst = &row;
  }
  if (worst == nullptr) return "";
  const auto middle = sqnrs_db.begin() + static_cast<std::ptrdiff_t>(sqnrs_db.size() / 2);
  std::nth_element(sqnrs_db.begin(), middle, sqnrs_db.end());
  return "  weights       SQNR " + format_number(*middle, 1) + " dB (median), " +
         format_number(*worst->weight_sqnr_db, 1) + " dB at worst (" + worst->name + ")\n";
}

// What low-rank terms cost and brought: "rank 32, 0.42 of 4.67 bits a weight; error of the layers' outputs
// 0.31".
std::string correction_line(const Report& report) {
  int64_t least = 0, most = 0, layers = 0;
  double ratios = 0;
  for (const LayerRow& row : report.layers) {
    if (!row.correction || row.correction->rank == 0) continue;
    const CorrectionRow& correction = *row.correction;
    least = layers == 0 ? correction.rank : std::min(least, correction.rank);
    most = std::max(most, correction.rank);
    ratios += correction.remaining();
    ++layers;
  }
  if (layers == 0) return "";
  return "  correction    rank " + std::to_string(least) +
         (most > least ? " to " + std::to_string(most) : "") + ", " +
         format_number(report.bits_per_weight - report.bits_per_weight_without_correction, 2) +
         " of the bits a weight; leaves " + format_number(ratios / static_cast<double>(layers) * 100, 1) +
         " % of the error of " + std::to_string(layers) + " layers' outputs\n";
}

// Of the mixtures of experts: the fewest tokens that one was calibrated on, and the most that go elsewhere.
std::string routing_line(const std::vector<RoutingRow>& rows) {
  std::optional<int64_t> fewest;
  std::optional<double> changed;
  for (const RoutingRow& row : rows) {
    for (const int64_t tokens : row.calibrated) fewest = std::min(tokens, fewest.value_or(tokens));
    if (row.changed) changed = std::max(*row.changed, changed.value_or(0));
  }
  if (!fewest && !changed) return "";
  std::string text = "  experts       ";
  if (fewest) text += "calibrated on " + std::to_string(*fewest) + " tokens or more each";
  if (fewest && changed) text += ", ";
  if (changed) text += "at most " + format_number(*changed * 100, 2) + " % of a layer's tokens go to others";
  return text + "\n";
}

}  // namespace

std::string format_number(double value, int digits) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : (value > 0 ? "inf" : "-inf");
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  const bool is_zero = std::string_view(text).find_first_not_of("-0.") == std::string_view::npos;
  return is_zero && text[0] == '-' ? text + 1 : text;  // nothing has the sign of what was rounded away
}

std::string format_bytes(int64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  const char* const units[] = {"kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return format_number(value, value < 9.995 ? 2 : 1) + " " + units[unit];
}

std::string text_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(header.size());
  for (size_t c = 0; c < header.size(); ++c) {
    widths[c] = header[c].size();
    for (const auto& row : rows) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto line = [&widths](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string pad(widths[c] - cells[c].size(), ' ');
      text += c == 0 ? cells[c] + pad : "  " + pad + cells[c];
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text = line(header);
  for (const auto& row : rows) text += line(row);
  return text;
}

std::string loads_in_text(const Report& report) {
  std::vector<std::pair<std::string, std::string>> runtimes;  // name -> formats
  for (const auto& [runtime, format] : report.loads_in) {
    if (runtimes.empty() || runtimes.back().first != runtime) {
      runtimes.emplace_back(runtime, format);
    } else {
      runtimes.back().second += " or " + format;
    }
  }
  std::string text;
  for (const auto& [runtime, formats] : runtimes)
    text += (text.empty() ? "" : ", ") + runtime + " (" + formats + ")";
  return text;
}

std::string fallback_text(const std::vector<Remark>& fallbacks) {
  return remark_text("not as asked", fallbacks);
}

std::string decision_text(const std::vector<Remark>& decisions) {
  return remark_text("decisions", decisions);
}

std::string warning_text(const std::vector<std::string>& warnings) {
  if (warnings.empty()) return "";
  std::string text = "warnings, " + std::to_string(warnings.size()) + ":\n";
  for (const std::string& warning : warnings) text += "  " + warning + "\n";
  return text;
}

std::string summary(const Report& report, const std::string& output_path) {
  const int64_t source_bytes = integer_of(report.source, "bytes");
  std::string text = string_of(report.source, "name") + " -> " + output_path + "\n";
  text += "  method        " + string_of(report.recipe, "method") + " " + string_of(report.recipe, "bits") +
          string_of(report.recipe, "base");
  if (!report.calibration.empty()) {
    text += ", calibrated on " + string_of(report.calibration, "source") + " (" +
            std::to_string(integer_of(report.calibration, "tokens")) + " tokens)";
  } else {
    text += ", which needs no calibration";
  }
  text += "\n";
  text += "  size          " + format_bytes(source_bytes) + " -> " + format_bytes(report.output_bytes);
  if (source_bytes > 0) {
    text += " (" +
            format_number(static_cast<double>(report.output_bytes) / static_cast<double>(source_bytes), 3) +
            " of the source, " + format_number(report.bits_per_weight, 2) + " bits a weight)";
  }
  text += "\n";
  if (report.quality) {
    const Quality& quality = *report.quality;
    text += "  perplexity    " + format_number(quality.perplexity_float, 3) + " -> " +
            format_number(quality.perplexity_quantized, 3) + " (" +
            percent(quality.perplexity_quantized / quality.perplexity_float) + ") on " + quality.text + ", " +
            std::to_string(quality.tokens) + " tokens\n";
    text += "  against float KL " + format_number(quality.mean_kl, 5) + " nats a token, same top token " +
            format_number(quality.top1_agreement * 100, 2) + " %\n";
  } else {
    text += weights_line(report.layers);
    text += "  quality       of the output was not measured: --eval-text or --calib asks for it\n";
  }
  text += correction_line(report);
  text += worst_layer_line(report.layers);
  text += routing_line(report.routing);
  if (!report.loads_in.empty()) text += "  loads in      " + loads_in_text(report) + ", once exported\n";
  double total_ms = 0;
  for (const auto& [stage, elapsed_ms] : report.time_ms) total_ms += elapsed_ms;
  text += "  time          " + format_number(total_ms / 1000, 1) + " s, peak memory " +
          format_bytes(report.peak_rss_bytes) + "\n";
  text += fallback_text(report.fallbacks) + decision_text(report.decisions) + warning_text(report.warnings);
  return text;
}

std::string kinds_table(const Report& report) {
  const auto decibels = [](const std::optional<double>& value) {
    return value ? format_number(*value, 1) : std::string("-");
  };
  std::vector<std::vector<std::string>> rows;
  for (const KindSummary& kind : summarize_kinds(report.layers)) {
    std::string bits = format_number(kind.least_bits, 0);
    if (kind.most_bits > kind.least_bits) bits += "-" + format_number(kind.most_bits, 0);
    rows.push_back({kind.name, std::to_string(kind.layers), bits, decibels(kind.least_sqnr_db),
                    decibels(kind.median_sqnr_db), format_number(kind.error_share * 100, 1)});
  }
  return text_table({"kind of layer", "layers", "bits", "worst dB", "median dB", "% of error"}, rows);
}

}  // namespace ptq
