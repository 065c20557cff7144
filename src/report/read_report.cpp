#include "ptq/report/read_report.h"

#include <filesystem>
#include <set>

#include "ptq/base/error.h"
#include "report/read_fields.h"

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

void check_names(const std::vector<LayerRow>& layers, const std::string& where) {
  std::set<std::string> names;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (names.insert(layers[i].name).second) continue;
    throw Error(where + ".layers[" + std::to_string(i) + "]",
                "a second layer of the name \"" + layers[i].name + "\"");
  }
}

}  // namespace

StoredReport parse_report(const Json& json, const std::string& where) {
  StoredReport stored{where, printable(json), {}};
  JsonFields fields(stored.json, where);
  check_version(fields);
  FieldReader(Form::kDocument).read_fields(fields, stored.report);
  check_names(stored.report.layers, where);
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
