// quantize list: methods, steps, architectures and formats, or the options of a method, from the tables the
// program runs on.
#include "commands.h"
#include "ptq/base/join.h"
#include "ptq/export/formats.h"
#include "ptq/report/report.h"
#include "ptq/step/step.h"
#include "runtimes_of_run.h"

namespace ptq {
namespace {

// A word, or several with spaces between.
std::string words(const Json& value) {
  return value.is_array() ? join(value.get<std::vector<std::string>>(), " ") : value.get<std::string>();
}

Json list_json() {
  Json json = {{"methods", Json::array()},
               {"steps", Json::array()},
               {"architectures", Json::array()},
               {"formats", Json::array()}};
  for (const MethodEntry& entry : methods()) {
    json["methods"].push_back({{"name", entry.name},
                               {entry.by_base ? "base" : "bits", entry.bits},
                               {"families", entry.families},
                               {"description", entry.description},
                               {"options", entry.default_options()}});
  }
  for (const StepEntry& entry : steps()) {
    json["steps"].push_back(
        {{"name", entry.name}, {"kind", step_kind_name(entry.kind)}, {"description", entry.description}});
  }
  for (const ArchitectureEntry& entry : architectures()) {
    json["architectures"].push_back(
        {{"name", entry.name}, {"families", entry.families}, {"description", entry.description}});
  }
  for (const FormatEntry& entry : formats()) {
    Json options = Json::array();
    for (const FormatOption& option : entry.options) options.push_back(option.name);
    const bool opened = entry.open != nullptr;
    json["formats"].push_back({{"name", entry.name},
                               {"description", entry.description},
                               {"exported", entry.write != nullptr},
                               {"opened", opened},
                               {"why_not_opened", opened ? Json(nullptr) : Json(entry.why_not_opened)},
                               {"options", options}});
  }
  return json;
}

// Of one method: each option with its values, its default and what it does.
void list_method(const MethodEntry& method, const CommonOptions& common) {
  Json options = Json::array();
  std::string text = std::string(method.name) + "  " + method.description + "\n  --" +
                     (method.by_base ? "base " : "bits ") + join(method.bits, " ") +
                     ", the first by default; for " +
                     (method.families.empty() ? "every architecture" : join(method.families, " ")) + "\n";
  for (const MethodOption& option : method.options()) {
    options.push_back({{"name", option.name},
                       {"default", option.value},
                       {"values", option.values},
                       {"effect", option.effect}});
    const std::string value =
        option.value.is_string() ? option.value.get<std::string>() : option.value.dump();
    text += "  --set " + std::string(method.name) + "." + option.name + "=" + value + "\n      " +
            option.values + "\n      " + option.effect + "\n";
  }
  const Json json = {{"name", method.name},         {method.by_base ? "base" : "bits", method.bits},
                     {"families", method.families}, {"description", method.description},
                     {"samples", method.samples},   {"seq_len", method.seq_len},
                     {"options", options}};
  print(common.json ? json.dump(1) + "\n" : text);
}

}  // namespace

void list_command(const ListOptions& options, const CommonOptions& common) {
  if (options.runtimes) {
    print(common.json ? Json{{"runtimes", runtimes_json()}}.dump(1) + "\n" : runtimes_text());
    return;
  }
  if (!options.method.empty()) {
    list_method(find_method(options.method, "METHOD"), common);
    return;
  }
  const Json json = list_json();
  if (common.json) {
    print(json.dump(1) + "\n");
    return;
  }
  std::string text = "methods (--method); `quantize list METHOD` says what their options do\n";
  for (const Json& entry : json["methods"]) {
    const auto families = entry["families"].get<std::vector<std::string>>();
    text += "  " + entry["name"].get<std::string>() + "  " + entry["description"].get<std::string>() + "\n";
    const char* form = entry.contains("base") ? "base" : "bits";
    text += std::string("      --") + form + " " + join(entry[form].get<std::vector<std::string>>(), " ") +
            "; for " + (families.empty() ? "every architecture" : join(families, " ")) + "\n";
    for (const auto& [key, value] : entry["options"].items()) {
      text += "      --set " + entry["name"].get<std::string>() + "." + key + "=" +
              (value.is_string() ? value.get<std::string>() : value.dump()) + "\n";
    }
  }
  const auto section = [&](const char* key, const std::string& title, const char* extra) {
    text += title + "\n";
    for (const Json& entry : json[key]) {
      text += "  " + entry["name"].get<std::string>() +
              (extra != nullptr ? " (" + words(entry[extra]) + ")" : "") + "  " +
              entry["description"].get<std::string>() + "\n";
    }
  };
  section("steps", "steps (of recipes)", "kind");
  section("architectures", "architectures", "families");
  section("formats", "output formats", nullptr);
  print(text);
}

}  // namespace ptq
