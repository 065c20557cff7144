#include "ptq/report/read_report.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr JsonLimits kLimits = {.max_bytes = size_t{64} << 20, .max_depth = 32, .max_values = 4'000'000};

std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return text;
}

Json printable(const Json& json) {
  if (json.is_string()) return printable(json.get<std::string>());
  if (json.is_array()) {
    Json copy = Json::array();
    for (const Json& item : json) copy.push_back(printable(item));
    return copy;
  }
  if (!json.is_object()) return json;
  Json copy = Json::object();
  // Past the search for the key: parse_json() has refused duplicates, and two keys that differ in a control
  // character alone do no harm.
  auto& members = copy.get_ref<Json::object_t&>();
  for (const auto& [key, value] : json.items())
    members.Json::object_t::Container::emplace_back(printable(key), printable(value));
  return copy;
}

std::optional<double> optional_number(JsonFields& fields, const char* key) {
  return fields.has(key) ? std::optional(fields.number(key, 0)) : std::nullopt;
}
std::optional<int64_t> optional_integer(JsonFields& fields, const char* key) {
  return fields.has(key) ? std::optional(fields.integer(key, 0)) : std::nullopt;
}
double number_or_nan(JsonFields& fields, const char* key) {
  return fields.number(key, std::numeric_limits<double>::quiet_NaN());
}

// The member, which must be of this type if it is there; an empty one if it is not.
const Json& member(JsonFields& fields, const char* key, const Json& empty) {
  if (!fields.has(key)) return empty;
  const Json& value = fields.at(key);
  if (value.type() == empty.type()) return value;
  throw Error(fields.path() + "." + key,
              std::string("expected an ") + empty.type_name() + ", found " + value.type_name());
}
const Json& object_at(JsonFields& fields, const char* key) {
  static const Json empty = Json::object();
  return member(fields, key, empty);
}
const Json& array_at(JsonFields& fields, const char* key) {
  static const Json empty = Json::array();
  return member(fields, key, empty);
}

// Values without a search for their key, which would be quadratic over an object of a million members.
int64_t integer_value(const Json& value, const std::string& where) {
  const Json wrapped = {{"value", value}};
  return JsonFields(wrapped, where).integer("value", 0);
}
double number_value(const Json& value, const std::string& where) {
  const Json wrapped = {{"value", value}};
  return JsonFields(wrapped, where).number("value", 0);
}

std::vector<int64_t> integers_at(JsonFields& fields, const char* key) {
  std::vector<int64_t> integers;
  for (const Json& value : array_at(fields, key))
    integers.push_back(integer_value(value, fields.path() + "." + key));
  return integers;
}

std::vector<std::string> strings_at(JsonFields& fields, const char* key) {
  std::vector<std::string> strings;
  for (const Json& value : array_at(fields, key)) {
    if (!value.is_string()) {
      throw Error(fields.path() + "." + key, std::string("expected strings, found ") + value.type_name());
    }
    strings.push_back(value.get<std::string>());
  }
  return strings;
}

// Calls `read(fields)` for every object of a list.
template <typename Read>
void for_each_row(JsonFields& fields, const char* key, Read read) {
  size_t index = 0;
  for (const Json& item : array_at(fields, key)) {
    JsonFields row(item, fields.path() + "." + key + "[" + std::to_string(index++) + "]");
    read(row);
  }
}

void check_version(JsonFields& fields) {
  const std::string& where = fields.path();
  if (!fields.has("schema_version")) {
    throw Error(where, "is not a report of quantize: it has no schema_version",
                "the report.json of an output directory");
  }
  const int64_t version = fields.integer("schema_version", 0);
  if (version == kReportSchemaVersion) return;
  JsonFields program(object_at(fields, "program"), where + ".program");
  const std::string writer = program.string("version", "");
  const std::string which = writer.empty() ? "the quantize that wrote it" : "quantize " + writer;
  throw Error(where,
              "has schema version " + std::to_string(version) + "; this program reads version " +
                  std::to_string(kReportSchemaVersion),
              version > kReportSchemaVersion
                  ? which + " or a later one"
                  : "quantize the model again for a report of this version, or use " + which);
}

CorrectionRow read_correction(JsonFields& fields) {
  CorrectionRow row;
  row.rank = fields.integer("rank", 0);
  row.variant = fields.string("variant", "");
  row.energy_before = optional_number(fields, "energy_before");
  row.energy_after = optional_number(fields, "energy_after");
  row.shrinkage = fields.number("shrinkage", 0);
  row.rounds = fields.integer("rounds", 1);
  row.stored = fields.string("stored", "");
  row.bytes = fields.integer("bytes", 0);
  row.bits_per_weight = fields.number("bits_per_weight", 0);
  if (!fields.has("better_base")) return row;
  JsonFields better(fields.at("better_base"), fields.path() + ".better_base");
  row.better_base = better.string("format", "");
  row.better_base_bits = better.number("bits_per_weight", 0);
  row.better_base_energy = better.number("energy", 0);
  return row;
}

LayerRow read_layer(JsonFields& row) {
  LayerRow layer;
  layer.name = row.string("name", "");
  layer.role = row.string("role", "");
  layer.shape = integers_at(row, "shape");
  layer.bits = row.number("bits", 0);
  layer.granularity = row.string("granularity", "");
  layer.group = optional_integer(row, "group");
  layer.weight_sqnr_db = optional_number(row, "weight_sqnr_db");
  layer.output_sqnr_db = optional_number(row, "output_sqnr_db");
  layer.relative_error = row.number("error_share", 0);
  if (row.has("correction")) {
    JsonFields fields(row.at("correction"), row.path() + ".correction");
    layer.correction = read_correction(fields);
  }
  return layer;
}

SiteRow read_site(JsonFields& row) {
  SiteRow site;
  site.name = row.string("name", "");
  site.kind = row.string("kind", "");
  site.quantizer = row.string("quantizer", "none");
  site.scale = optional_number(row, "scale");
  site.percentile = optional_number(row, "percentile");
  site.amax = optional_number(row, "amax");
  site.clipped_fraction = optional_number(row, "clipped_fraction");
  site.bits = optional_integer(row, "bits");
  site.peak_before = number_or_nan(row, "peak_before");
  site.peak_after = number_or_nan(row, "peak_after");
  site.transform = row.string("transform", "");
  site.rotation_steps = integers_at(row, "rotation_steps");
  site.orthogonality_error = optional_number(row, "orthogonality_error");
  return site;
}

void read_rows(JsonFields& fields, Report& report) {
  std::set<std::string> names;
  for_each_row(fields, "layers", [&](JsonFields& row) {
    report.layers.push_back(read_layer(row));
    const std::string& name = report.layers.back().name;
    if (!names.insert(name).second) throw Error(row.path(), "a second layer of the name \"" + name + "\"");
  });
  for_each_row(fields, "sites", [&](JsonFields& row) { report.sites.push_back(read_site(row)); });
  for_each_row(fields, "blocks", [&](JsonFields& row) {
    report.blocks.push_back({row.integer("index", 0), optional_number(row, "output_sqnr_db"),
                             number_or_nan(row, "max_abs_error"), row.number("error_share", 0)});
  });
  const auto read_remarks = [&](const char* key, std::vector<Remark>& remarks) {
    for_each_row(fields, key, [&](JsonFields& row) {
      remarks.push_back({row.string("where", ""), row.string("what", ""), row.string("why", "")});
    });
  };
  read_remarks("fallbacks", report.fallbacks);
  read_remarks("decisions", report.decisions);
}

void read_quality(JsonFields& fields, Report& report) {
  if (!fields.has("quality")) return;
  JsonFields quality(fields.at("quality"), fields.path() + ".quality");
  report.quality = Quality{quality.string("text", ""),
                           quality.integer("tokens", 0),
                           number_or_nan(quality, "perplexity_float"),
                           number_or_nan(quality, "perplexity_quantized"),
                           number_or_nan(quality, "mean_kl"),
                           number_or_nan(quality, "top1_agreement")};
}

void read_sizes_and_times(JsonFields& fields, Report& report) {
  JsonFields output(object_at(fields, "output"), fields.path() + ".output");
  report.output_bytes = output.integer("bytes", 0);
  report.bits_per_weight = number_or_nan(output, "bits_per_weight");
  report.correction_bytes = output.integer("correction_bytes", 0);
  report.bits_per_weight_without_correction = output.number("bits_per_weight_without_correction", 0);
  for (const auto& [name, bytes] : object_at(output, "files").items())
    report.output_files[name] = integer_value(bytes, output.path() + ".files." + name);
  for (const auto& [stage, elapsed] : object_at(fields, "time_ms").items())
    report.time_ms.emplace_back(stage, number_value(elapsed, fields.path() + ".time_ms." + stage));
  report.peak_rss_bytes = fields.integer("peak_rss_bytes", 0);
  report.warnings = strings_at(fields, "warnings");
}

// The parts that stay JSON: whoever prints them relies on these types.
void check_sections(JsonFields& fields, Report& report) {
  report.program = object_at(fields, "program");
  JsonFields program(report.program, fields.path() + ".program");
  for (const char* key : {"name", "version", "git", "torch", "isa"}) program.string(key, "");
  program.integer("threads", 0);
  report.source = object_at(fields, "source");
  JsonFields source(report.source, fields.path() + ".source");
  for (const char* key : {"name", "architecture", "dtype"}) source.string(key, "");
  for (const char* key : {"parameters", "bytes"}) source.integer(key, 0);
  for (const auto& [name, hash] : object_at(source, "files").items()) {
    if (!hash.is_string()) throw Error(source.path() + ".files." + name, "expected a string");
  }
  report.recipe = object_at(fields, "recipe");
  JsonFields recipe(report.recipe, fields.path() + ".recipe");
  for (const char* key : {"method", "bits", "base", "embedding"}) recipe.string(key, "");
  for (const char* key : {"families", "skip"}) strings_at(recipe, key);
  for_each_row(recipe, "steps", [](JsonFields& step) { step.string("step", ""); });
  report.calibration = object_at(fields, "calibration");
  JsonFields calibration(report.calibration, fields.path() + ".calibration");
  calibration.string("source", "");
  for (const char* key : {"samples", "seq_len", "kept_aside", "tokens"}) calibration.integer(key, 0);
}

}  // namespace

StoredReport parse_report(const Json& json, const std::string& where) {
  StoredReport stored{where, printable(json), {}};
  JsonFields fields(stored.json, where);
  check_version(fields);
  check_sections(fields, stored.report);
  read_rows(fields, stored.report);
  read_quality(fields, stored.report);
  read_sizes_and_times(fields, stored.report);
  return stored;
}

StoredReport read_report(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::string file = path;
  if (fs::is_directory(path, ignored)) {
    file = (fs::path(path) / "report.json").string();
    if (!fs::exists(file, ignored))
      throw Error(path, "has no report.json", "the output directory of a run, or a report");
  }
  return parse_report(read_json_file(file, kLimits), file);
}

}  // namespace ptq
