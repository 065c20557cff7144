#include "report/requirement.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

struct ComparisonEntry {
  const char* symbol;
  const char* words;  // between the value and the limit
  Comparison comparison;
};

constexpr ComparisonEntry kComparisons[] = {
    {"<", "less than", Comparison::kLess}, {"<=", "at most", Comparison::kAtMost},
    {">", "more than", Comparison::kMore}, {">=", "at least", Comparison::kAtLeast},
    {"==", "exactly", Comparison::kEqual}, {"!=", "anything but", Comparison::kUnequal},
};

constexpr const char* kForm = "'/quality/perplexity_quantized <= 12.5' or '... <= baseline * 1.02'";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

const char* words_for(Comparison comparison) {
  for (const ComparisonEntry& entry : kComparisons) {
    if (entry.comparison == comparison) return entry.words;
  }
  return "";
}

bool holds(double value, Comparison comparison, double limit) {
  switch (comparison) {
    case Comparison::kLess:
      return value < limit;
    case Comparison::kAtMost:
      return value <= limit;
    case Comparison::kMore:
      return value > limit;
    case Comparison::kAtLeast:
      return value >= limit;
    case Comparison::kEqual:
      return value == limit;
    case Comparison::kUnequal:
      return value != limit;
  }
  return false;
}

// The parts of a JSON pointer (RFC 6901), unescaped. nullopt if it is not one.
std::optional<std::vector<std::string>> pointer_parts(std::string_view pointer) {
  std::vector<std::string> parts;
  if (pointer.size() < 2 || pointer.front() != '/') return {};
  for (size_t i = 0; i < pointer.size(); ++i) {
    const char c = pointer[i];
    if (c == '/') {
      parts.emplace_back();
    } else if (c == '~') {
      if (i + 1 >= pointer.size() || (pointer[i + 1] != '0' && pointer[i + 1] != '1')) return {};
      parts.back() += pointer[++i] == '0' ? '~' : '/';
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// A number of a document, or why there is none.
struct Found {
  std::optional<double> value;
  std::string problem;
};

std::string key_problem(const Json& object, const std::string& key, const std::string& place) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : object.items()) {
    if (keys.size() < 64) keys.push_back(name);
  }
  const std::string hint = suggest(key, keys);
  return "there is no \"" + key + "\"" + (place.empty() ? "" : " in " + place) +
         (hint.starts_with("did you mean") ? ", " + hint : "");
}

Found number_at(const Json& document, const std::string& pointer) {
  const Json* here = &document;
  std::string place;
  for (const std::string& part : pointer_parts(pointer).value_or(std::vector<std::string>())) {
    if (here->is_object()) {
      const auto found = here->find(part);
      if (found == here->end()) return {{}, key_problem(*here, part, place)};
      here = &*found;
    } else if (here->is_array()) {
      size_t index = 0;
      const auto [end, failed] = std::from_chars(part.data(), part.data() + part.size(), index);
      const bool whole = failed == std::errc() && end == part.data() + part.size() &&
                         (part.size() == 1 || part.front() != '0');
      if (!whole || index >= here->size()) {
        return {{}, place + " has no entry \"" + part + "\", it has " + std::to_string(here->size())};
      }
      here = &(*here)[index];
    } else if (here->is_null() && place == "/quality") {
      return {{}, "output quality was not measured: quantize with --eval-text or --calib"};
    } else {
      return {
          {},
          place + " is " + (here->is_null() ? "null" : "a single value") + " and has no \"" + part + "\""};
    }
    place += "/" + part;
  }
  if (here->is_number()) return {here->get<double>(), ""};
  if (here->is_structured()) return {static_cast<double>(here->size()), ""};
  if (here->is_null()) return {{}, place + " is null: it was not measured, or is not finite"};
  return {{}, place + " is a " + here->type_name() + ", not a number"};
}

// Numbers that were measured on two texts cannot be compared.
std::string quality_mismatch(const Requirement& requirement, const StoredReport& report,
                             const StoredReport& baseline) {
  if (!requirement.pointer.starts_with("/quality/") || !report.report.quality || !baseline.report.quality)
    return "";
  const Quality &a = *report.report.quality, &b = *baseline.report.quality;
  if (a.text == b.text && a.tokens == b.tokens) return "";
  const auto describe = [](const Quality& quality) {
    return "\"" + quality.text + "\" (" + std::to_string(quality.tokens) + " tokens)";
  };
  return "measured on " + describe(a) + ", the baseline on " + describe(b) + ": they cannot be compared";
}

void read_value(const std::string& option, std::string_view text, Requirement& requirement) {
  constexpr std::string_view kBaseline = "baseline";
  const auto refuse = [&] {
    return usage_error(
        option, "\"" + std::string(text) + "\" is neither a number nor relative to the baseline", kForm);
  };
  if (!text.starts_with(kBaseline)) {
    const std::optional<double> number = parse_number(text);
    if (!number) throw refuse();
    requirement.offset = *number;
    return;
  }
  requirement.reference = requirement.pointer;
  requirement.from_baseline = true;
  requirement.factor = 1;
  const std::string_view rest = trimmed(text.substr(kBaseline.size()));
  if (rest.empty()) return;
  const std::optional<double> number = parse_number(trimmed(rest.substr(1)));
  if (!number) throw refuse();
  if (rest.front() == '*') {
    requirement.factor = *number;
  } else if (rest.front() == '+' || rest.front() == '-') {
    requirement.offset = rest.front() == '+' ? *number : -*number;
  } else {
    throw refuse();
  }
}

}  // namespace

std::optional<double> parse_number(std::string_view text) {
  double number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) return {};
  return number;
}

std::string short_number(double value) {
  char text[64];
  const bool whole = std::abs(value) < 1e15 && value == std::floor(value);
  std::snprintf(text, sizeof(text), whole ? "%.0f" : "%.6g", value);
  return text;
}

Requirement parse_requirement(const std::string& option, const std::string& text) {
  // The operator is looked for from the end: a key of the pointer may hold any character.
  constexpr const char* kSymbols = "<>=!";
  const size_t last = text.find_last_of(kSymbols);
  if (last == std::string::npos) throw usage_error(option, "\"" + text + "\" has no comparison", kForm);
  const size_t first =
      last > 0 && std::string_view(kSymbols).find(text[last - 1]) != std::string_view::npos ? last - 1 : last;
  const std::string symbol = text.substr(first, last - first + 1);
  Requirement requirement;
  requirement.pointer = trimmed(std::string_view(text).substr(0, first));
  bool known = false;
  for (const ComparisonEntry& entry : kComparisons) {
    if (symbol != entry.symbol) continue;
    requirement.comparison = entry.comparison;
    known = true;
  }
  if (!known) throw usage_error(option, "\"" + symbol + "\" is not one of < <= > >= == !=", kForm);
  if (!pointer_parts(requirement.pointer)) {
    throw usage_error(option, "\"" + requirement.pointer + "\" is not a JSON pointer such as /output/bytes",
                      kForm);
  }
  read_value(option, trimmed(std::string_view(text).substr(last + 1)), requirement);
  return requirement;
}

Verdict judge_requirement(const Requirement& requirement, const std::string& threshold,
                          const StoredReport& report, const StoredReport* baseline) {
  Verdict verdict{.threshold = threshold};
  const Found found = number_at(report.json, requirement.pointer);
  verdict.value = found.value;
  verdict.text = found.problem;
  if (!found.value) return verdict;
  Found reference{0.0, ""};
  if (!requirement.reference.empty()) {
    reference = number_at(requirement.from_baseline ? baseline->json : report.json, requirement.reference);
    verdict.text = (requirement.from_baseline ? "in the baseline, " : "") + reference.problem;
    if (!reference.value) return verdict;
  }
  if (requirement.from_baseline) {
    verdict.text = quality_mismatch(requirement, report, *baseline);
    if (!verdict.text.empty()) return verdict;
  }
  const double limit = requirement.factor * *reference.value + requirement.offset;
  verdict.limit = limit;
  verdict.met = holds(*found.value, requirement.comparison, limit);
  std::string value_text = short_number(*found.value), limit_text = short_number(limit);
  if (value_text == limit_text && *found.value != limit) {  // six digits do not tell them apart
    value_text = Json(*found.value).dump();
    limit_text = Json(limit).dump();
  }
  verdict.text = value_text + ", " + words_for(requirement.comparison) + " " + limit_text;
  if (!requirement.reference.empty()) {
    verdict.text += std::string(" (") + (requirement.from_baseline ? "baseline " : "float ") +
                    short_number(*reference.value) + ")";
  }
  return verdict;
}

}  // namespace ptq
