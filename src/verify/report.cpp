// report.json: its schema, the sizes it states, and what it says of weights and sites.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "ptq/report/json_schema.h"
#include "verify/parts.h"

namespace ptq {
namespace {

constexpr const char* kReport = "report.json";
constexpr const char* kConfig = "config.json";

bool has_file(const Subject& subject, const std::string& name) {
  return std::binary_search(subject.files.begin(), subject.files.end(), name);
}

// The document; null, with a finding, if it is missing or no JSON object.
Json read_document(Subject& subject, const std::string& name) {
  Json json;
  if (!has_file(subject, name)) {
    subject.findings.add(name, "is missing");
    return json;
  }
  subject.findings.guard(name, [&] {
    std::vector<std::string> repeated;
    json = read_python_json_file(subject.directory + "/" + name, {}, repeated);
    if (!repeated.empty())
      throw Error(name, "the key \"" + repeated.front() + "\" occurs twice in one object");
    if (!json.is_object()) throw Error(name, "is not a JSON object");
  });
  return json.is_object() ? json : Json();
}

// Bytes of the files that the report names; report.json and SHA256SUMS were written after it.
void check_sizes(Subject& subject) {
  const Json& output = subject.report.at("output");
  std::set<std::string> rest(subject.files.begin(), subject.files.end());
  rest.erase(kReport);
  rest.erase("SHA256SUMS");
  int64_t weight_bytes = 0;
  for (const auto& [name, stated] : output.at("files").items()) {
    if (rest.erase(name) == 0) {
      subject.findings.add(name, "is named in the report's output.files, but missing");
      continue;
    }
    const auto bytes = static_cast<int64_t>(std::filesystem::file_size(subject.directory + "/" + name));
    if (name.ends_with(".safetensors")) weight_bytes += bytes;
    if (stated != bytes)
      subject.findings.add(name, "has " + std::to_string(bytes) + " bytes; the report says " + stated.dump());
  }
  for (const std::string& name : rest) subject.findings.add(name, "is not among the report's output.files");
  if (output.at("bytes") != weight_bytes) {
    subject.findings.add(kReport, "output.bytes is " + output.at("bytes").dump() +
                                      "; the weight files have " + std::to_string(weight_bytes));
  }
  const double bits =
      8 * static_cast<double>(weight_bytes) / subject.report.at("source").at("parameters").get<double>();
  const Json& stated = output.at("bits_per_weight");
  if (!stated.is_number() || std::abs(stated.get<double>() - bits) > 1e-9 * bits)
    subject.findings.add(
        kReport, "output.bits_per_weight is " + stated.dump() + "; the files have " + std::to_string(bits));
}

// A row of `layers` states the scheme of quantization_config.
void check_layer(Subject& subject, const Json& row, const std::string& name) {
  const Json& schemes = subject.quantization.at("weights");
  const Json scheme = schemes.contains(name) ? schemes.at(name) : Json::object();
  const std::string place = std::string(kReport) + ": layer " + name;
  if (scheme.empty() != row.at("granularity").is_null()) {
    subject.findings.add(place, scheme.empty() ? "is said to be rounded, and is stored as float"
                                               : "is said to be float, and is stored in codes");
    return;
  }
  if (scheme.empty()) return;
  for (const char* field : {"bits", "granularity", "group"}) {
    const Json configured = scheme.value(field, Json());
    const Json& stated = row.at(field);
    const bool same = configured.is_number() && stated.is_number()
                          ? configured.get<double>() == stated.get<double>()
                          : configured == stated;
    if (!same)
      subject.findings.add(place, std::string(field) + " is " + stated.dump() +
                                      "; quantization_config says " + configured.dump());
  }
}

void check_layers(Subject& subject, const Listing& listing) {
  std::set<std::string> reported;
  for (const Json& row : subject.report.at("layers")) {
    const std::string layer = row.at("name").get<std::string>();
    const auto linear = listing.weight_of_layer.find(layer);
    const std::string name = linear == listing.weight_of_layer.end() ? layer : linear->second;
    const auto listed = listing.weights.find(name);
    if (listed == listing.weights.end()) {
      subject.findings.add(std::string(kReport) + ": layer " + layer, "is not one of the architecture's");
      continue;
    }
    if (!reported.insert(name).second)
      subject.findings.add(std::string(kReport) + ": layer " + layer, "occurs twice");
    if (row.at("shape") != Json(listed->second.shape)) {
      subject.findings.add(
          std::string(kReport) + ": layer " + layer,
          "has the shape " + row.at("shape").dump() + "; stored is " + shape_text(listed->second.shape));
    }
    check_layer(subject, row, name);
  }
  for (const auto& [name, scheme] : subject.quantization.at("weights").items()) {
    if (!reported.contains(name))
      subject.findings.add(name, "is in codes, and the report has no layer of it");
  }
}

void check_site(Subject& subject, const Json& row, const Listing& listing) {
  const std::string key = row.at("name").get<std::string>();
  const std::string place = std::string(kReport) + ": site " + key;
  const Json& sites = subject.quantization.at("sites");
  const Json json = sites.contains(key) ? sites.at(key) : Json{{"quantizer", "none"}};
  if (json.at("quantizer") != row.at("quantizer")) {
    subject.findings.add(place, "quantizer is " + row.at("quantizer").dump() + "; quantization_config says " +
                                    json.at("quantizer").dump());
  }
  if (json.value("bits", Json()) != row.at("bits"))
    subject.findings.add(place, "bits are " + row.at("bits").dump() + "; quantization_config says " +
                                    json.value("bits", Json()).dump());
  const auto form = listing.sites.find(key);
  const std::string text = form == listing.sites.end() ? "" : transform_text(form->second.transform);
  if (row.at("transform") != (text.empty() ? Json(nullptr) : Json(text)))
    subject.findings.add(place,
                         "transform is " + row.at("transform").dump() + "; stored is \"" + text + "\"");
  const auto scale = subject.tensors.find(key + ".scale");
  if (scale == subject.tensors.end() || scale->second.dtype != "F32" || scale->second.values < 1) return;
  std::vector<float> scales(static_cast<size_t>(scale->second.values));
  read_floats(scale->second, 0, scale->second.values, scales.data());
  const float stored = *std::ranges::max_element(scales);
  if (!row.at("scale").is_number() || row.at("scale").get<double>() != static_cast<double>(stored))
    subject.findings.add(place,
                         "scale is " + row.at("scale").dump() + "; stored is " + std::to_string(stored));
}

}  // namespace

void read_documents(Subject& subject) {
  subject.config = read_document(subject, kConfig);
  subject.report = read_document(subject, kReport);
  const bool ours = (subject.config.contains("quantization_config") &&
                     subject.config.at("quantization_config").is_object() &&
                     subject.config.at("quantization_config").value("quant_method", Json()) == "ptq") ||
                    (subject.report.contains("program") && subject.report.at("program").is_object() &&
                     subject.report.at("program").value("name", Json()) == "quantize");
  if (!ours) {
    throw Error(subject.directory,
                "is no output of this program: neither its config.json nor its report.json says so",
                "the directory that a run has written");
  }
  if (subject.report.is_null()) return;
  const std::vector<std::string> errors = schema_errors(report_schema(), subject.report);
  for (const std::string& error : errors) subject.findings.add(kReport, error);
  if (!errors.empty()) subject.report = Json();
}

void check_report(Subject& subject, const std::optional<Listing>& listing) {
  if (subject.report.is_null()) return;
  check_sizes(subject);
  if (!listing) return;
  if (subject.report.at("recipe") != subject.quantization.at("recipe"))
    subject.findings.add(kReport, "the recipe is not that of quantization_config");
  if (subject.report.at("source").at("architecture") != listing->architecture) {
    subject.findings.add(kReport, "source.architecture is " +
                                      subject.report.at("source").at("architecture").dump() +
                                      "; the tensors are those of " + listing->architecture);
  }
  if (subject.report.at("blocks").size() != static_cast<size_t>(listing->num_blocks)) {
    subject.findings.add(kReport, "has " + std::to_string(subject.report.at("blocks").size()) +
                                      " blocks; the model has " + std::to_string(listing->num_blocks));
  }
  check_layers(subject, *listing);
  for (const Json& row : subject.report.at("sites")) check_site(subject, row, *listing);
}

}  // namespace ptq
