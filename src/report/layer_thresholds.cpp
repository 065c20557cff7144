#include "report/layer_thresholds.h"

#include <algorithm>
#include <limits>
#include <map>

#include "ptq/base/error.h"
#include "ptq/base/pattern.h"
#include "report/requirement.h"

namespace ptq {
namespace {

double decibels(const std::string& option, const std::string& text) {
  const std::optional<double> number = parse_number(text);
  if (!number) throw usage_error(option, "\"" + text + "\" is not a number of dB", "20");
  return *number;
}

// Whether its output should have been measured: other tensors (norms, a convolution's weight) are rows too.
bool should_be_measured(const LayerRow& layer) {
  return layer.role == "linear" && !layer.granularity.empty();
}

// Collects layers with their limits, and makes the verdict of them.
class LayerCheck {
 public:
  // Names for the text: what the smallest margin belongs to, and what there is nothing of if no layer was
  // added.
  explicit LayerCheck(std::string threshold) { verdict_.threshold = std::move(threshold); }

  void add(const std::string& name, std::optional<double> value_db, double limit_db) {
    ++count_;
    if (!value_db || *value_db < limit_db) verdict_.layers.push_back({name, value_db, limit_db});
    if (!value_db || *value_db - limit_db >= smallest_margin_) return;
    smallest_margin_ = *value_db - limit_db;
    worst_ = name;
    verdict_.value = value_db;
    verdict_.limit = limit_db;
  }

  Verdict finish(const std::string& nothing) {
    if (count_ == 0) {
      verdict_.text = nothing;
      return verdict_;
    }
    std::stable_sort(verdict_.layers.begin(), verdict_.layers.end(), [](const auto& a, const auto& b) {
      constexpr double kNone = -std::numeric_limits<double>::infinity();
      return a.value_db.value_or(kNone) - a.limit_db < b.value_db.value_or(kNone) - b.limit_db;
    });
    verdict_.met = verdict_.layers.empty();
    if (verdict_.value) {
      verdict_.text = format_number(*verdict_.value, 2) + " dB (" + worst_ + "), at least " +
                      format_number(*verdict_.limit, 2) + " dB";
    }
    if (!verdict_.met) {
      verdict_.text += (verdict_.value ? "; " : "") + std::to_string(verdict_.layers.size()) + " of " +
                       std::to_string(count_) + " layers miss it";
    }
    return verdict_;
  }

 private:
  Verdict verdict_;
  int64_t count_ = 0;
  double smallest_margin_ = std::numeric_limits<double>::infinity();
  std::string worst_;
};

Threshold min_sqnr_of(const std::string& text, const std::string& pattern, double limit_db) {
  return {text, false, [text, pattern, limit_db](const StoredReport& report, const StoredReport*) {
            LayerCheck layers(text);
            for (const LayerRow& layer : report.report.layers) {
              if (!pattern.empty() && !matches_pattern(pattern, layer.name)) continue;
              if (layer.output_sqnr_db || should_be_measured(layer))
                layers.add(layer.name, layer.output_sqnr_db, limit_db);
            }
            return layers.finish(pattern.empty()
                                     ? "no layer of the report has an output SQNR"
                                     : "no layer with an output SQNR matches \"" + pattern + "\"");
          }};
}

}  // namespace

Threshold min_sqnr_db(const std::string& option, const std::string& value) {
  return min_sqnr_of(option + " " + value, "", decibels(option, value));
}

Threshold layer_min_sqnr(const std::string& option, const std::string& value) {
  const size_t equals = value.rfind('=');
  if (equals == std::string::npos || equals == 0) {
    throw usage_error(option, "\"" + value + "\" is not PATTERN=DB", "'model.layers.0.*=25'");
  }
  return min_sqnr_of(option + " " + value, value.substr(0, equals),
                     decibels(option, value.substr(equals + 1)));
}

Threshold max_sqnr_drop_db(const std::string& option, const std::string& value) {
  const double drop = decibels(option, value);
  if (drop < 0) throw usage_error(option, "\"" + value + "\" is less than 0");
  const std::string text = option + " " + value;
  return {text, true, [text, drop](const StoredReport& report, const StoredReport* baseline) {
            std::map<std::string, const LayerRow*> rows;
            for (const LayerRow& layer : report.report.layers) rows[layer.name] = &layer;
            LayerCheck layers(text);
            for (const LayerRow& before : baseline->report.layers) {
              if (!before.output_sqnr_db) continue;
              const auto found = rows.find(before.name);
              const bool in_float =
                  found != rows.end() && !found->second->output_sqnr_db && found->second->granularity.empty();
              if (in_float) continue;
              layers.add(before.name, found == rows.end() ? std::nullopt : found->second->output_sqnr_db,
                         *before.output_sqnr_db - drop);
            }
            return layers.finish("no layer of the baseline has an output SQNR");
          }};
}

}  // namespace ptq
