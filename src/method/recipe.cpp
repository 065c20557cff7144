#include "ptq/method/recipe.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/step/step.h"

namespace ptq {
namespace {

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

std::vector<std::string> string_list(JsonFields& fields, const std::string& key) {
  std::vector<std::string> list;
  if (!fields.has(key)) return list;
  const Json& json = fields.at(key);
  for (const Json& item : json.is_array() ? json : Json::array({json})) {
    if (!item.is_string())
      throw usage_error(fields.path() + "." + key, "expected a list of strings, found " + json.dump());
    list.push_back(item.get<std::string>());
  }
  return list;
}

int64_t within(JsonFields& fields, const std::string& key, int64_t fallback, int64_t least) {
  constexpr int64_t kMost = 1'000'000;
  const int64_t value = fields.integer(key, fallback);
  if (value < least || value > kMost) {
    throw usage_error(fields.path() + "." + key, std::to_string(value) + " is outside " +
                                                     std::to_string(least) + " to " + std::to_string(kMost));
  }
  return value;
}

// Sets one existing field, found by a dotted path; list elements by number.
void set_field(Json& root, const std::string& path, const Json& value) {
  Json* at = &root;
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, end - begin);
    if (at->is_array()) {
      const bool is_index =
          !key.empty() && key.size() < 6 && key.find_first_not_of("0123456789") == std::string::npos;
      if (!is_index || std::stoul(key) >= at->size()) {
        throw usage_error("--set " + path, "\"" + key + "\" is not one of the " + std::to_string(at->size()) +
                                               " entries, counted from 0");
      }
      at = &(*at)[std::stoul(key)];
    } else {
      if (!at->is_object() || !at->contains(key)) {
        throw usage_error("--set " + path, "there is no field \"" + key + "\"",
                          at->is_object() ? suggest(key, keys_of(*at)) : "");
      }
      at = &(*at)[key];
    }
    if (end == path.size()) break;
    begin = end + 1;
  }
  *at = value;
}

struct Assignment {
  std::string path;
  Json value;
};

Assignment parse_assignment(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw usage_error("--set " + text, "is not of the form PATH=VALUE", "--set quamba.percentile=0.9999");
  }
  const std::string value = text.substr(equals + 1);
  const Json parsed = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  return {text.substr(0, equals), parsed.is_discarded() ? Json(value) : parsed};
}

// The method's recipe with `options` (every one of the method's own), as --method makes it.
Recipe expand_method(const MethodEntry& method, const std::string& bits, const Json& options,
                     const std::string& where) {
  Recipe recipe;
  recipe.method = method.name;
  const std::string form = bits.empty() ? method.bits.front() : bits;
  (method.by_base ? recipe.base : recipe.bits) = form;
  if (!method.by_base && std::find(method.bits.begin(), method.bits.end(), form) == method.bits.end()) {
    throw usage_error(where, std::string(method.name) + " has no \"" + bits + "\"",
                      suggest(bits, method.bits));
  }
  recipe.families = method.families;
  recipe.purpose = method.purpose;
  recipe.samples = method.samples;
  recipe.seq_len = method.seq_len;
  JsonFields fields(options, method.name);
  recipe.steps = method.steps(form, fields);
  fields.finish();
  return recipe;
}

// The assignments that name the method's options are taken out of the list; the others stay in it.
Json take_method_options(const MethodEntry& method, Json options, std::vector<Assignment>& assignments) {
  const std::string prefix = std::string(method.name) + ".";
  Json root = {{method.name, std::move(options)}};
  std::erase_if(assignments, [&](const Assignment& assignment) {
    if (!assignment.path.starts_with(prefix)) return false;
    set_field(root, assignment.path, assignment.value);
    return true;
  });
  return root[method.name];
}

// {"method": "quamba", "bits": "w8a8", "quamba": {"percentile": 0.9999}, "samples": 64}: the short form,
// which has no steps. Its fields are those of the command line.
bool is_short_form(const Json& json) {
  return json.is_object() && json.contains("method") && !json.contains("steps");
}

Json long_form(const Json& json, const std::string& where, std::vector<Assignment>& assignments) {
  JsonFields fields(json, where);
  const MethodEntry& method = find_method(fields.string("method", ""), where + ".method");
  Json options = method.default_options();
  if (fields.has(method.name)) {
    const Json& given = fields.at(method.name);
    if (!given.is_object())
      throw usage_error(where + "." + method.name,
                        std::string("expected an object, found ") + given.type_name());
    for (const auto& [key, value] : given.items()) {
      if (!options.contains(key)) {
        throw usage_error(where + "." + method.name, "unknown option \"" + key + "\"",
                          suggest(key, keys_of(options)));
      }
      options[key] = value;
    }
  }
  options = take_method_options(method, std::move(options), assignments);
  const std::string key = method.by_base ? "base" : "bits";
  const Recipe recipe = expand_method(method, fields.string(key, ""), options, where + "." + key);
  Json expanded = recipe.to_json();
  for (const char* field : {"skip", "embedding", "feedback", "samples", "seq_len"}) {
    if (fields.has(field)) expanded[field] = fields.at(field);
  }
  fields.finish();
  return expanded;
}

// A recipe file has the steps that the method's options were turned into: says where an option went.
void explain_method_option(const Recipe& recipe, const Assignment& assignment) {
  const size_t dot = assignment.path.find('.');
  const std::string first = assignment.path.substr(0, dot);
  const bool names_method = std::any_of(methods().begin(), methods().end(),
                                        [&](const MethodEntry& entry) { return entry.name == first; });
  if (!names_method || dot == std::string::npos) return;
  const std::string option = assignment.path.substr(dot + 1);
  std::string places;
  for (size_t i = 0; i < recipe.steps.size(); ++i) {
    if (!recipe.steps[i].options.contains(option)) continue;
    places += (places.empty() ? "" : ", ") + ("--set steps." + std::to_string(i)) + "." + option + "=VALUE";
  }
  throw usage_error("--set " + assignment.path,
                    "the recipe lists its steps, so the options of " + first + " are fields of these",
                    places.empty() ? "--print-recipe shows the steps" : places);
}

std::vector<StepConfig> read_steps(const Json& json, const std::string& where) {
  if (!json.is_array())
    throw usage_error(where, std::string("expected a list of steps, found ") + json.type_name());
  std::vector<StepConfig> list;
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string place = where + "[" + std::to_string(i) + "]";
    if (!json[i].is_object())
      throw usage_error(place, std::string("expected an object, found ") + json[i].type_name());
    Json options = json[i];
    if (!options.contains("step") || !options["step"].is_string())
      throw usage_error(place, "\"step\" is missing");
    const std::string name = options["step"].get<std::string>();
    options.erase("step");
    find_step(name, place);
    list.push_back({name, options});
  }
  return list;
}

// The steps run in the order that they are listed in. One that could not do there what it is for is refused.
class OrderCheck {
 public:
  explicit OrderCheck(std::string where) : where_(std::move(where)) {}

  void add(const StepConfig& step, StepKind kind, bool reads_rounded_activations) {
    const std::string& name = step.name;
    const std::string place = where_ + "[" + std::to_string(index_++) + "] (" + name + ")";
    if (kind == StepKind::kRewrite && !first_rounding_.empty()) {
      throw usage_error(
          place, "a rewrite changes the float block, which \"" + first_rounding_ + "\" has changed before it",
          "rewrites before all other steps");
    }
    if (kind == StepKind::kWeightRounding && !weights_.empty() && !names_weights(step.options)) {
      throw usage_error(place, "the weights are rounded already, by \"" + weights_ + "\" before it",
                        "one of the two, or \"sites\" that they do not share");
    }
    if (kind == StepKind::kCorrection && weights_.empty())
      throw usage_error(place, "there is no rounded weight to correct", "after the step that rounds weights");
    if (reads_rounded_activations && !activations_) {
      throw usage_error(place, "needs rounded activations, and no step before it rounds them",
                        "after the step \"activations\", or moment = \"float\"");
    }
    if (kind != StepKind::kRewrite && first_rounding_.empty()) first_rounding_ = name;
    if (kind == StepKind::kWeightRounding) weights_ = name;
    activations_ = activations_ || kind == StepKind::kActivationRounding;
  }

 private:
  // Whether the options say which weights are rounded: a second step may round others.
  static bool names_weights(const Json& options) {
    return options.value("sites", Json("all")) != "all" || options.value("tensors", Json()) == "rest";
  }

  std::string where_;
  size_t index_ = 0;
  std::string first_rounding_, weights_;  // the first steps of these kinds, so far
  bool activations_ = false;
};

// What the shipped method says it is for; else the names of the families.
std::string purpose_of(const Recipe& recipe) {
  for (const MethodEntry& entry : methods()) {
    if (entry.name == recipe.method) return entry.purpose;
  }
  std::string purpose;
  for (const std::string& family : recipe.families) purpose += (purpose.empty() ? "" : ", ") + family;
  return purpose;
}

// --bits belongs to some methods; --base, --rank and --target-bpw to the others, as short forms of --set.
void check_form_options(const MethodEntry& method, const RecipeOptions& options,
                        std::vector<Assignment>& assignments) {
  const std::string name = method.name;
  if (method.by_base && !options.bits.empty()) {
    throw usage_error("--bits", "is not an option of " + name + ", which rounds weights only",
                      "--base, e.g. " + method.bits.front());
  }
  const char* given = !options.base.empty() ? "--base" : options.rank ? "--rank" : "--target-bpw";
  if (!method.by_base && (!options.base.empty() || options.rank || options.target_bpw)) {
    throw usage_error(given, "is not an option of " + name,
                      "--bits; --base, --rank and --target-bpw are for qera");
  }
  if (options.rank && options.target_bpw)
    throw usage_error("--rank", "has no place beside --target-bpw, which shares ranks out", "one of the two");
  if (options.rank) assignments.push_back({name + ".rank", *options.rank});
  if (options.target_bpw) assignments.push_back({name + ".target_bpw", *options.target_bpw});
}

// `json` is the recipe file, null without one.
Recipe resolve(const RecipeOptions& options, Json json) {
  std::vector<Assignment> assignments;
  for (const std::string& text : options.sets) assignments.push_back(parse_assignment(text));
  std::string where = options.file;
  if (!options.file.empty()) {
    if (is_short_form(json)) json = long_form(json, where, assignments);
  } else {
    const MethodEntry& method = find_method(options.method);
    where = options.method;
    check_form_options(method, options, assignments);
    const Json own = take_method_options(method, method.default_options(), assignments);
    json = expand_method(method, method.by_base ? options.base : options.bits, own, "--bits").to_json();
  }
  const Recipe recipe = read_recipe(json, where);
  json = recipe.to_json();
  for (const Assignment& assignment : assignments) {
    explain_method_option(recipe, assignment);
    set_field(json, assignment.path, assignment.value);
  }
  for (const std::string& pattern : options.skip) json["skip"].push_back(pattern);
  if (!options.embedding.empty()) json["embedding"] = options.embedding;
  return read_recipe(json, where);
}

}  // namespace

Json Recipe::to_json() const {
  Json step_list = Json::array();
  for (const StepConfig& step : steps) {
    Json entry = {{"step", step.name}};
    entry.update(step.options);
    step_list.push_back(entry);
  }
  return {{"method", method},
          {"bits", bits},
          {"base", base},
          {"families", families},
          {"steps", step_list},
          {"skip", skip},
          {"embedding", embedding},
          {"feedback", {{"strength", feedback.strength}, {"damping", feedback.damping}}},
          {"samples", samples},
          {"seq_len", seq_len}};
}

namespace {

Feedback read_feedback(const Json& json, const std::string& where) {
  if (json == "off") return {};
  if (json == "on") return kFeedbackOn;
  if (json.is_string())
    throw usage_error(where, json.dump() + " is no form of feedback", "on, off, or feedback.strength=0.5");
  JsonFields fields(json, where);
  Feedback feedback;
  feedback.strength = fields.number("strength", feedback.strength);
  feedback.damping = fields.number("damping", feedback.damping);
  fields.finish();
  if (!(feedback.strength >= 0 && feedback.strength <= 1))
    throw usage_error(where + ".strength",
                      "is " + Json(feedback.strength).dump() + "; it must lie from 0 to 1");
  if (!(feedback.damping >= 1e-6 && feedback.damping <= 10))
    throw usage_error(where + ".damping",
                      "is " + Json(feedback.damping).dump() + "; it must lie from 1e-06 to 10");
  return feedback;
}

}  // namespace

Recipe read_recipe(const Json& json, const std::string& where) {
  if (is_short_form(json)) {
    std::vector<Assignment> none;
    return read_recipe(long_form(json, where, none), where);
  }
  JsonFields fields(json, where);
  if (!fields.has("steps"))
    throw usage_error(where, "names neither a \"method\" nor \"steps\"", "{\"method\": \"quamba\"}");
  Recipe recipe;
  recipe.method = fields.string("method", "custom");
  recipe.bits = fields.string("bits", "");
  recipe.base = fields.string("base", "");
  recipe.families = string_list(fields, "families");
  recipe.purpose = purpose_of(recipe);
  recipe.steps = read_steps(fields.at("steps"), where + ".steps");
  recipe.skip = string_list(fields, "skip");
  recipe.embedding = fields.string("embedding", "float");
  if (recipe.embedding != "float" && recipe.embedding != "int8") {
    throw usage_error(where + ".embedding", "\"" + recipe.embedding + "\" is not a form of the embedding",
                      suggest(recipe.embedding, {"float", "int8"}));
  }
  if (fields.has("feedback")) recipe.feedback = read_feedback(fields.at("feedback"), where + ".feedback");
  recipe.samples = within(fields, "samples", recipe.samples, 1);
  recipe.seq_len = within(fields, "seq_len", recipe.seq_len, 2);  // a token, and one to predict
  fields.finish();
  OrderCheck order(where + ".steps");
  for (const StepConfig& step : recipe.steps) {  // options are checked here, before any work
    JsonFields options(step.options, where + ".steps (" + step.name + ")");
    const StepEntry& entry = find_step(step.name, where);
    order.add(step, entry.kind, entry.make(options)->reads_rounded_activations());
  }
  return recipe;
}

Recipe resolve_recipe(const RecipeOptions& options) {
  const bool has_form = !options.bits.empty() || !options.base.empty() || options.rank || options.target_bpw;
  if (!options.file.empty() && (!options.method.empty() || has_form)) {
    throw usage_error(
        "--recipe",
        "a recipe file names its method and bits: --method, --bits, --base, --rank and --target-bpw "
        "cannot be given with it",
        "--set PATH=VALUE changes one field of the recipe");
  }
  if (options.file.empty() && options.method.empty()) {
    throw usage_error("--method", "is missing: which method, or --recipe FILE?",
                      methods_for(options.families));
  }
  Json json;
  if (!options.file.empty()) json = read_json_file(options.file, {.max_bytes = size_t{1} << 20});
  try {
    return resolve(options, json);
  } catch (const Error& error) {  // a value of the wrong type is as wrong as one that is not allowed
    throw usage_error("", error.what());
  }
}

}  // namespace ptq
