// Writes rows as JSON, by the declarations of their fields.
#pragma once

#include <cmath>

#include "report/fields.h"

namespace ptq {

class FieldWriter {
 public:
  explicit FieldWriter(Form form) : form_(form) {}

  template <Row T>
  Json value(const T& row, const About& = {}) const {
    Json object = Json::object();
    visit_fields(row, [&](const char* key, const auto& member, const About& about = {}) {
      object[key] = value(member, about);
    });
    return object;
  }

  template <typename T>
  Json value(const std::vector<T>& items, const About& about = {}) const {
    FieldWriter writer(form_);
    if constexpr (requires(const T& row) { row.relative_error; }) {
      for (const T& row : items) writer.error_sum_ += row.relative_error;
    }
    Json list = Json::array();
    for (const T& item : items) list.push_back(writer.value(item, about));
    return list;
  }

  template <typename T>
  Json value(const std::optional<T>& item, const About& about) const {
    return item ? value(*item, about) : Json(nullptr);
  }

  Json value(Version, const About&) const { return kReportSchemaVersion; }

  template <typename J, typename Fields>
  Json value(const Section<J, Fields>& section, const About&) const {
    return section.json;
  }

  Json value(const Share<const double>& share, const About& about) const {
    if (form_ == Form::kExact) return value(share.relative_error, about);
    return error_sum_ > 0 ? value(share.relative_error / error_sum_, about) : Json(nullptr);
  }

  // JSON has no word for numbers that are not finite.
  Json value(double number, const About&) const {
    if (std::isfinite(number)) return number;
    if (form_ == Form::kDocument) return nullptr;
    return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
  }

  Json value(int64_t number, const About&) const { return number; }

  Json value(const std::string& text, const About& about) const {
    const bool absent = about.or_null && text.empty() && form_ == Form::kDocument;
    return absent ? Json(nullptr) : Json(text);
  }

  Json value(const std::map<std::string, int64_t>& numbers, const About&) const {
    Json object = Json::object();
    for (const auto& [name, number] : numbers) object[name] = number;
    return object;
  }

  // Times, to a tenth of a millisecond.
  Json value(const std::vector<std::pair<std::string, double>>& times_ms, const About&) const {
    Json object = Json::object();
    for (const auto& [stage, elapsed_ms] : times_ms) object[stage] = std::round(elapsed_ms * 10) / 10;
    return object;
  }

 private:
  Form form_;
  double error_sum_ = 0;  // of the rows that are written
};

}  // namespace ptq
