#include "ptq/report/report_diff.h"

#include <cmath>
#include <map>

namespace ptq {
namespace {

struct ComparedNumber {
  const char* pointer;
  const char* label;
  int digits;
};

constexpr ComparedNumber kNumbers[] = {
    {"/quality/perplexity_float", "perplexity of the float model", 3},
    {"/quality/perplexity_quantized", "perplexity, quantized", 3},
    {"/quality/mean_kl", "KL to the float model", 5},
    {"/quality/top1_agreement", "same top token", 4},
    {"/output/bytes", "bytes of the weight files", 0},
    {"/output/bits_per_weight", "bits a weight", 3},
    {"/fallbacks", "not as asked", 0},
    {"/decisions", "decisions", 0},
    {"/warnings", "warnings", 0},
    {"/peak_rss_bytes", "peak memory, bytes", 0},
};

// A list counts as its length.
Json number_at(const Json& document, const char* pointer) {
  const Json::json_pointer place(pointer);
  if (!document.contains(place)) return nullptr;
  const Json& value = document.at(place);
  if (value.is_array()) return value.size();
  return value.is_number() ? value : Json(nullptr);
}

// Every scalar of a document, and every empty container, by JSON pointer.
void flatten(const Json& json, const std::string& pointer, std::map<std::string, Json>& leaves) {
  if (!json.is_structured() || json.empty()) {
    leaves[pointer] = json;
    return;
  }
  size_t index = 0;
  for (const auto& [key, value] : json.items())
    flatten(value, pointer + "/" + (json.is_array() ? std::to_string(index++) : key), leaves);
}

Json recipe_differences(const Json& a, const Json& b) {
  std::map<std::string, Json> leaves_a, leaves_b;
  flatten(a, "", leaves_a);
  flatten(b, "", leaves_b);
  std::map<std::string, Json> all = leaves_a;
  all.insert(leaves_b.begin(), leaves_b.end());
  Json differences = Json::array();
  for (const auto& [pointer, unused] : all) {
    const auto in_a = leaves_a.find(pointer), in_b = leaves_b.find(pointer);
    const Json left = in_a == leaves_a.end() ? Json(nullptr) : in_a->second;
    const Json right = in_b == leaves_b.end() ? Json(nullptr) : in_b->second;
    if (left != right) differences.push_back({{"pointer", pointer}, {"a", left}, {"b", right}});
  }
  return differences;
}

Json or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json layer_row(const LayerRow* a, const LayerRow* b) {
  const auto value = [](const LayerRow* row, auto member) {
    return row != nullptr ? or_null(row->*member) : Json(nullptr);
  };
  const auto bits = [](const LayerRow* row) { return row != nullptr ? Json(row->bits) : Json(nullptr); };
  const bool both = a != nullptr && b != nullptr;
  const bool measured = both && a->output_sqnr_db && b->output_sqnr_db;
  const bool same = both && a->bits == b->bits && a->output_sqnr_db == b->output_sqnr_db &&
                    a->weight_sqnr_db == b->weight_sqnr_db;
  return {{"name", a != nullptr ? a->name : b->name},
          {"status", same           ? "same"
                     : both         ? "changed"
                     : a != nullptr ? "only a"
                                    : "only b"},
          {"bits_a", bits(a)},
          {"bits_b", bits(b)},
          {"sqnr_db_a", value(a, &LayerRow::output_sqnr_db)},
          {"sqnr_db_b", value(b, &LayerRow::output_sqnr_db)},
          {"change_db", measured ? Json(*b->output_sqnr_db - *a->output_sqnr_db) : Json(nullptr)},
          {"weight_sqnr_db_a", value(a, &LayerRow::weight_sqnr_db)},
          {"weight_sqnr_db_b", value(b, &LayerRow::weight_sqnr_db)}};
}

Json layer_rows(const Report& a, const Report& b) {
  std::map<std::string, const LayerRow*> in_a, in_b;
  for (const LayerRow& row : a.layers) in_a[row.name] = &row;
  for (const LayerRow& row : b.layers) in_b[row.name] = &row;
  Json rows = Json::array();
  for (const LayerRow& row : a.layers) {
    const auto other = in_b.find(row.name);
    rows.push_back(layer_row(&row, other == in_b.end() ? nullptr : other->second));
  }
  for (const LayerRow& row : b.layers) {
    if (!in_a.contains(row.name)) rows.push_back(layer_row(nullptr, &row));
  }
  return rows;
}

Json summarize(const Json& layers) {
  std::map<std::string, int64_t> counts;
  double sum = 0, worst = 0;
  int64_t measured = 0;
  Json worst_layer = nullptr;
  for (const Json& row : layers) {
    ++counts[row["status"].get<std::string>()];
    if (row["change_db"].is_null()) continue;
    const auto change = row["change_db"].get<double>();
    if (measured == 0 || change < worst) {
      worst = change;
      worst_layer = row["name"];
    }
    sum += change;
    ++measured;
  }
  return {{"same", counts["same"]},
          {"changed", counts["changed"]},
          {"only_a", counts["only a"]},
          {"only_b", counts["only b"]},
          {"mean_change_db", measured > 0 ? Json(sum / static_cast<double>(measured)) : Json(nullptr)},
          {"worst_change_db", measured > 0 ? Json(worst) : Json(nullptr)},
          {"worst_layer", worst_layer}};
}

std::string shown(const Json& value, int digits) {
  return value.is_number() ? format_number(value.get<double>(), digits) : "-";
}

std::string change_text(const Json& value) {
  if (!value.is_number()) return "";
  const auto change = value.get<double>();
  return (change >= 0 ? "+" : "") + format_number(change, 2);
}

std::string numbers_table(const Json& diff) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : diff["numbers"]) {
    for (const ComparedNumber& number : kNumbers) {
      if (row["pointer"] != number.pointer) continue;
      const Json &a = row["a"], &b = row["b"];
      const bool ratio = a.is_number() && b.is_number() && a.get<double>() > 0;
      const double percent = ratio ? (b.get<double>() / a.get<double>() - 1) * 100 : 0;
      rows.push_back({number.label, shown(a, number.digits), shown(b, number.digits),
                      ratio ? (percent >= 0 ? "+" : "") + format_number(percent, 2) + " %" : ""});
    }
  }
  return text_table({"", "A", "B", "change"}, rows);
}

}  // namespace

Json diff_reports(const StoredReport& a, const StoredReport& b) {
  Json numbers = Json::array();
  for (const ComparedNumber& number : kNumbers) {
    numbers.push_back({{"pointer", number.pointer},
                       {"a", number_at(a.json, number.pointer)},
                       {"b", number_at(b.json, number.pointer)}});
  }
  const Json layers = layer_rows(a.report, b.report);
  return {{"kind", "reports"},
          {"a", a.path},
          {"b", b.path},
          {"numbers", numbers},
          {"recipe", recipe_differences(a.report.recipe, b.report.recipe)},
          {"layers", layers},
          {"summary", summarize(layers)}};
}

std::string report_diff_text(const Json& diff) {
  std::string text = numbers_table(diff);
  const Json &recipe = diff["recipe"], &summary = diff["summary"];
  if (!recipe.empty()) text += "\nrecipe\n";
  for (const Json& row : recipe) {
    text +=
        "  " + row["pointer"].get<std::string>() + ": " + row["a"].dump() + " -> " + row["b"].dump() + "\n";
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : diff["layers"]) {
    if (row["status"] == "same") continue;
    rows.push_back({row["name"].get<std::string>(), row["status"].get<std::string>(), shown(row["bits_a"], 0),
                    shown(row["bits_b"], 0), shown(row["sqnr_db_a"], 2), shown(row["sqnr_db_b"], 2),
                    change_text(row["change_db"]), shown(row["weight_sqnr_db_a"], 2),
                    shown(row["weight_sqnr_db_b"], 2)});
  }
  if (!rows.empty())
    text +=
        "\n" +
        text_table({"layer", "", "bits A", "bits B", "dB A", "dB B", "change", "weight A", "weight B"}, rows);
  const auto count = [&summary](const char* key) { return std::to_string(summary[key].get<int64_t>()); };
  text += "\nlayers: " + count("same") + " the same, " + count("changed") + " changed, " + count("only_a") +
          " in A alone, " + count("only_b") + " in B alone";
  if (summary["worst_layer"].is_string()) {
    text += "; output SQNR " + change_text(summary["mean_change_db"]) + " dB in the mean, worst " +
            change_text(summary["worst_change_db"]) + " dB (" + summary["worst_layer"].get<std::string>() +
            ")";
  }
  return text + "\n";
}

}  // namespace ptq
