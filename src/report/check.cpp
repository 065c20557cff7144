#include "ptq/report/check.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "report/layer_thresholds.h"
#include "report/requirement.h"

namespace ptq {
namespace {

Threshold make_threshold(const std::string& option, const std::string& value,
                         const Requirement& requirement) {
  const std::string text = option + " " + value;
  return {text, requirement.from_baseline,
          [text, requirement](const StoredReport& report, const StoredReport* baseline) {
            return judge_requirement(requirement, text, report, baseline);
          }};
}

double number_or_refuse(const std::string& option, const std::string& value, const std::string& forms) {
  const std::optional<double> number = parse_number(value);
  if (!number) throw usage_error(option, "\"" + value + "\" is not a number", forms);
  return *number;
}

// "1.5 %" of something, as 0.015. nullopt if there is no percent sign.
std::optional<double> parse_percent(const std::string& option, const std::string& value) {
  if (!value.ends_with('%')) return {};
  return number_or_refuse(option, value.substr(0, value.find_last_not_of(" %") + 1), "1%") / 100;
}

// "100MB", "1000000": decimal units, as the program prints them.
double parse_size(const std::string& option, const std::string& value) {
  constexpr std::pair<const char*, double> kUnits[] = {{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6},
                                                       {"kB", 1e3},  {"KB", 1e3}, {"B", 1}};
  for (const auto& [unit, factor] : kUnits) {
    if (!value.ends_with(unit)) continue;
    const std::string digits = value.substr(0, value.size() - std::string_view(unit).size());
    return factor * number_or_refuse(option, digits, "100MB, 1.5GB");
  }
  return number_or_refuse(option, value, "100MB, 1.5GB");
}

void refuse_negative(const std::string& option, const std::string& value, double number) {
  if (number < 0) throw usage_error(option, "\"" + value + "\" is less than 0");
}

Requirement at_most(const char* pointer, double limit) {
  return {.pointer = pointer, .comparison = Comparison::kAtMost, .offset = limit};
}
Requirement at_least(const char* pointer, double limit) {
  return {.pointer = pointer, .comparison = Comparison::kAtLeast, .offset = limit};
}

Threshold max_perplexity_increase(const std::string& option, const std::string& value) {
  const std::optional<double> percent = parse_percent(option, value);
  const double increase = percent ? *percent : number_or_refuse(option, value, "1% or 0.2");
  refuse_negative(option, value, increase);
  const Requirement float_model = {.pointer = "/quality/perplexity_quantized",
                                   .comparison = Comparison::kAtMost,
                                   .reference = "/quality/perplexity_float",
                                   .factor = percent ? 1 + increase : 1,
                                   .offset = percent ? 0 : increase};
  Requirement relative = float_model;
  relative.reference = relative.pointer;
  relative.from_baseline = true;
  const std::string text = option + " " + value;
  return {text, false,
          [text, float_model, relative](const StoredReport& report, const StoredReport* baseline) {
            return judge_requirement(baseline != nullptr ? relative : float_model, text, report, baseline);
          }};
}

Threshold max_size_increase(const std::string& option, const std::string& value) {
  const std::optional<double> percent = parse_percent(option, value);
  const double increase = percent ? *percent : parse_size(option, value);
  refuse_negative(option, value, increase);
  return make_threshold(option, value,
                        {.pointer = "/output/bytes",
                         .comparison = Comparison::kAtMost,
                         .reference = "/output/bytes",
                         .from_baseline = true,
                         .factor = percent ? 1 + increase : 1,
                         .offset = percent ? 0 : increase});
}

Threshold min_top1(const std::string& option, const std::string& value) {
  const std::optional<double> percent = parse_percent(option, value);
  const double share = percent ? *percent : number_or_refuse(option, value, "0.95 or 95%");
  if (share < 0 || share > 1) throw usage_error(option, "\"" + value + "\" is not a share", "0.95 or 95%");
  return make_threshold(option, value, at_least("/quality/top1_agreement", share));
}

// Options that compare one number of the report with a limit as it is typed.
template <const char* kPointer>
Threshold max_number(const std::string& option, const std::string& value) {
  return make_threshold(option, value, at_most(kPointer, number_or_refuse(option, value, "a number")));
}
template <const char* kPointer>
Threshold max_size(const std::string& option, const std::string& value) {
  return make_threshold(option, value, at_most(kPointer, parse_size(option, value)));
}

constexpr char kPerplexity[] = "/quality/perplexity_quantized", kMeanKl[] = "/quality/mean_kl",
               kBytes[] = "/output/bytes", kBitsPerWeight[] = "/output/bits_per_weight",
               kPeakRss[] = "/peak_rss_bytes", kFallbacks[] = "/fallbacks", kWarnings[] = "/warnings";

Threshold require(const std::string& option, const std::string& value) {
  return make_threshold(option, value, parse_requirement(option, value));
}

}  // namespace

const std::vector<ThresholdOption>& threshold_options() {
  // The order is that of --help and of the verdicts.
  static const std::vector<ThresholdOption> table = {
      {"--max-perplexity-increase", "N|P%",
       "over the baseline's quantized perplexity, without a baseline over the float model's",
       max_perplexity_increase},
      {"--max-perplexity", "N", "of the quantized model", max_number<kPerplexity>},
      {"--max-kl", "N", "mean KL divergence from the float model, nats a token", max_number<kMeanKl>},
      {"--min-top1", "N|P%", "share of tokens with the float model's most likely successor", min_top1},
      {"--min-sqnr-db", "N", "output SQNR of every layer", min_sqnr_db},
      {"--layer-min-sqnr", "PATTERN=N", "output SQNR, dB, of the layers of a shell pattern; repeatable",
       layer_min_sqnr},
      {"--max-sqnr-drop-db", "N", "output SQNR that a layer may lose against the baseline", max_sqnr_drop_db},
      {"--max-bytes", "SIZE", "weight files, e.g. 100MB", max_size<kBytes>},
      {"--max-bits-per-weight", "N", "weight files, bits a parameter", max_number<kBitsPerWeight>},
      {"--max-size-increase", "SIZE|P%", "weight files against the baseline", max_size_increase},
      {"--max-peak-rss", "SIZE", "memory of the run, e.g. 2GB", max_size<kPeakRss>},
      {"--max-fallbacks", "N", "layers that were not done as asked", max_number<kFallbacks>},
      {"--max-warnings", "N", "warnings of the run", max_number<kWarnings>},
      {"--require", "'POINTER OP VALUE'",
       "any number by JSON pointer; OP is < <= > >= == or !=; VALUE a number, `baseline`, or `baseline` "
       "and * + or - a number; repeatable",
       require},
  };
  return table;
}

std::vector<Threshold> default_thresholds() {
  return {max_perplexity_increase("--max-perplexity-increase", "1%"),
          max_sqnr_drop_db("--max-sqnr-drop-db", "1"), max_size_increase("--max-size-increase", "1%"),
          require("--require", "/fallbacks <= baseline")};
}

std::vector<Verdict> check(const std::vector<Threshold>& thresholds, const StoredReport& report,
                           const StoredReport* baseline) {
  std::vector<Verdict> verdicts;
  for (const Threshold& threshold : thresholds) {
    if (threshold.needs_baseline && baseline == nullptr)
      throw usage_error(threshold.text, "is relative to a baseline, and there is none", "--baseline REPORT");
    verdicts.push_back(threshold.judge(report, baseline));
  }
  return verdicts;
}

int64_t count_missed(const std::vector<Verdict>& verdicts) {
  return std::count_if(verdicts.begin(), verdicts.end(), [](const Verdict& verdict) { return !verdict.met; });
}

}  // namespace ptq
