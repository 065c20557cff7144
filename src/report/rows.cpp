#include "ptq/report/rows.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// The members of each row, once for writing and reading. A structured binding names all of them: a row that
// gets another member does not compile until it is listed here.
template <typename Visit>
void visit_members(CorrectionRow& row, const Visit& visit) {
  auto& [rank, variant, energy_before, energy_after, shrinkage, rounds, stored, bytes, bits_per_weight,
         better_base, better_base_bits, better_base_energy] = row;
  visit("rank", rank);
  visit("variant", variant);
  visit("shrinkage", shrinkage);
  visit("rounds", rounds);
  visit("stored", stored);
  visit("bytes", bytes);
  visit("bits_per_weight", bits_per_weight);
  visit("energy_before", energy_before);
  visit("energy_after", energy_after);
  visit("better_base", better_base);
  visit("better_base_bits", better_base_bits);
  visit("better_base_energy", better_base_energy);
}

template <typename Visit>
void visit_members(LayerRow& row, const Visit& visit) {
  auto& [name, role, shape, bits, granularity, group, weight_sqnr_db, output_sqnr_db, relative_error,
         correction] = row;
  visit("name", name);
  visit("role", role);
  visit("shape", shape);
  visit("bits", bits);
  visit("granularity", granularity);
  visit("group", group);
  visit("weight_sqnr_db", weight_sqnr_db);
  visit("output_sqnr_db", output_sqnr_db);
  visit("relative_error", relative_error);
  visit("correction", correction);
}

template <typename Visit>
void visit_members(SiteRow& row, const Visit& visit) {
  auto& [name, kind, quantizer, scale, percentile, amax, clipped_fraction, bits, peak_before, peak_after,
         transform, rotation_steps, orthogonality_error] = row;
  visit("name", name);
  visit("kind", kind);
  visit("quantizer", quantizer);
  visit("scale", scale);
  visit("percentile", percentile);
  visit("amax", amax);
  visit("clipped_fraction", clipped_fraction);
  visit("bits", bits);
  visit("peak_before", peak_before);
  visit("peak_after", peak_after);
  visit("transform", transform);
  visit("rotation_steps", rotation_steps);
  visit("orthogonality_error", orthogonality_error);
}

template <typename Visit>
void visit_members(BlockRow& row, const Visit& visit) {
  auto& [index, output_sqnr_db, max_abs_error, relative_error] = row;
  visit("index", index);
  visit("output_sqnr_db", output_sqnr_db);
  visit("max_abs_error", max_abs_error);
  visit("relative_error", relative_error);
}

template <typename Visit>
void visit_members(Remark& row, const Visit& visit) {
  auto& [where, what, why] = row;
  visit("where", where);
  visit("what", what);
  visit("why", why);
}

template <typename Row>
Json row_to_json(Row row);
template <typename Row>
void row_from_json(const Json& object, const std::string& where, Row& row);

// JSON has no word for numbers that are not finite.
Json value_to_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

template <typename T>
Json value_to_json(const T& value) {
  return value;
}

Json value_to_json(const CorrectionRow& row) {
  return row_to_json(row);
}

template <typename T>
Json value_to_json(const std::optional<T>& value) {
  return value ? value_to_json(*value) : Json(nullptr);
}

[[noreturn]] void throw_wrong(const std::string& where) {
  throw Error(where, "is not a row of a report");
}

void value_from_json(const Json& json, const std::string& where, std::string& value) {
  if (!json.is_string()) throw_wrong(where);
  value = json.get<std::string>();
}

void value_from_json(const Json& json, const std::string& where, int64_t& value) {
  if (!json.is_number_integer()) throw_wrong(where);
  value = json.get<int64_t>();
}

void value_from_json(const Json& json, const std::string& where, double& value) {
  using Limits = std::numeric_limits<double>;
  if (json.is_number()) {
    value = json.get<double>();
  } else if (json == "nan") {
    value = Limits::quiet_NaN();
  } else if (json == "inf" || json == "-inf") {
    value = json == "inf" ? Limits::infinity() : -Limits::infinity();
  } else {
    throw_wrong(where);
  }
}

void value_from_json(const Json& json, const std::string& where, CorrectionRow& row) {
  row_from_json(json, where, row);
}

template <typename T>
void value_from_json(const Json& json, const std::string& where, std::optional<T>& value) {
  if (json.is_null()) {
    value.reset();
  } else {
    value_from_json(json, where, value.emplace());
  }
}

template <typename T>
void value_from_json(const Json& json, const std::string& where, std::vector<T>& values) {
  if (!json.is_array()) throw_wrong(where);
  values.clear();
  for (const Json& entry : json) value_from_json(entry, where, values.emplace_back());
}

template <typename Row>
Json row_to_json(Row row) {
  Json object = Json::object();
  visit_members(row, [&](const char* name, auto& value) { object[name] = value_to_json(value); });
  return object;
}

template <typename Row>
void row_from_json(const Json& object, const std::string& where, Row& row) {
  if (!object.is_object()) throw_wrong(where);
  visit_members(row, [&](const char* name, auto& value) {
    const auto found = object.find(name);
    if (found == object.end()) throw_wrong(where);
    value_from_json(*found, where, value);
  });
}

template <typename Row>
Json list_to_json(const std::vector<Row>& rows) {
  Json list = Json::array();
  for (const Row& row : rows) list.push_back(row_to_json(row));
  return list;
}

template <typename Row>
void list_from_json(const Json& list, const std::string& where, std::vector<Row>& rows) {
  if (!list.is_array()) throw_wrong(where);
  rows.clear();
  for (const Json& object : list) row_from_json(object, where, rows.emplace_back());
}

}  // namespace

Json rows_to_json(const Report& report) {
  return {{"layers", list_to_json(report.layers)},       {"sites", list_to_json(report.sites)},
          {"blocks", list_to_json(report.blocks)},       {"fallbacks", list_to_json(report.fallbacks)},
          {"decisions", list_to_json(report.decisions)}, {"warnings", report.warnings}};
}

void rows_from_json(const Json& json, const std::string& where, Report& report) {
  JsonFields fields(json, where);
  list_from_json(fields.at("layers"), where + ".layers", report.layers);
  list_from_json(fields.at("sites"), where + ".sites", report.sites);
  list_from_json(fields.at("blocks"), where + ".blocks", report.blocks);
  list_from_json(fields.at("fallbacks"), where + ".fallbacks", report.fallbacks);
  list_from_json(fields.at("decisions"), where + ".decisions", report.decisions);
  value_from_json(fields.at("warnings"), where + ".warnings", report.warnings);
  fields.finish();
}

}  // namespace ptq
