#include "tokenizer/post_processor.h"

#include <map>
#include <optional>

#include "ptq/base/error.h"
#include "tokenizer/component.h"

namespace ptq {
namespace {

constexpr size_t kMaxSpecialIds = 1024;

struct Surroundings {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
};

using Made = std::optional<Surroundings>;

// "special_tokens": {NAME: {"id": NAME, "ids": [...], "tokens": [...]}}
std::map<std::string, std::vector<int64_t>> read_special_tokens(const Json& json, const std::string& where) {
  std::map<std::string, std::vector<int64_t>> special;
  if (!json.is_object()) throw Error(where, std::string("expected an object, found ") + json.type_name());
  for (const auto& [name, value] : json.items()) {
    Component fields(value, where + "." + name);
    fields.required_string("id");
    fields.at("tokens");
    std::vector<int64_t>& ids = special[name];
    fields.for_each_in("ids", [&](const Json& id, const std::string& path) {
      if (!id.is_number_integer())
        throw Error(path, std::string("expected an integer, found ") + id.type_name());
      ids.push_back(id.get<int64_t>());
    });
    fields.refuse_others();
  }
  return special;
}

// {"Sequence": {"id": "A", "type_id": 0}} or {"SpecialToken": {"id": NAME, "type_id": 0}}: the kind and the
// id.
std::pair<std::string, std::string> read_piece(const Json& piece, const std::string& where) {
  if (!piece.is_object() || piece.size() != 1) throw Error(where, "expected one Sequence or SpecialToken");
  Component fields(piece.begin().value(), where);
  fields.integer("type_id", 0);  // segment ids of sentence pairs, which are not kept
  std::string id = fields.required_string("id");
  fields.refuse_others();
  return {piece.begin().key(), std::move(id)};
}

Made make_template(Component& json) {
  const std::string special_path = json.path() + ".special_tokens";
  const auto special = read_special_tokens(json.at("special_tokens"), special_path);
  json.has("pair");  // how two texts are joined; only single texts are encoded
  Surroundings made;
  bool seen_text = false;
  json.for_each_in("single", [&](const Json& element, const std::string& path) {
    const auto [kind, id] = read_piece(element, path);
    if (kind == "Sequence") {
      if (id != "A" || seen_text) throw Error(path, "expected the sequence A once, found \"" + id + "\"");
      seen_text = true;
    } else if (kind == "SpecialToken") {
      const auto found = special.find(id);
      if (found == special.end()) throw Error(path, "\"" + id + "\" is not among the special_tokens");
      auto& ids = seen_text ? made.after : made.before;
      ids.insert(ids.end(), found->second.begin(), found->second.end());
    } else {
      throw Error(path, "unknown template piece \"" + kind + "\"", "Sequence or SpecialToken");
    }
    if (made.before.size() + made.after.size() > kMaxSpecialIds) {
      throw Error(path, "the template adds more than " + std::to_string(kMaxSpecialIds) + " tokens");
    }
  });
  if (!seen_text) throw Error(json.path() + ".single", "has no place for the text (Sequence A)");
  return made;
}

// "cls": ["[CLS]", 101], which goes before the text, and "sep" after it.
Made make_pair_of_ends(Component& json) {
  const auto id_of = [&](const std::string& key) {
    const Json& pair = json.at(key);
    const bool well_formed =
        pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number_integer();
    if (!well_formed) throw Error(json.path() + "." + key, "expected [token, id]");
    return pair[1].get<int64_t>();
  };
  return Surroundings{{id_of("cls")}, {id_of("sep")}};
}

// With fields that change offsets, which are not kept.
Made make_roberta(Component& json) {
  json.boolean("trim_offsets", true);
  json.boolean("add_prefix_space", true);
  return make_pair_of_ends(json);
}

// Changes offsets, which are not kept.
Made make_byte_level(Component& json) {
  json.boolean("add_prefix_space", true);
  json.boolean("trim_offsets", true);
  json.boolean("use_regex", true);
  return Surroundings();
}

Made make_post_processor(const Json& json, const std::string& where);

// Each processor works on what the one before has made, so later ones stand further out.
Made make_sequence(Component& json) {
  Surroundings made;
  json.for_each_in("processors", [&](const Json& element, const std::string& path) {
    const Made outer = make_post_processor(element, path);
    if (!outer) return;
    made.before.insert(made.before.begin(), outer->before.begin(), outer->before.end());
    made.after.insert(made.after.end(), outer->after.begin(), outer->after.end());
  });
  return made;
}

constexpr ComponentKind<Made> kPostProcessors[] = {
    {"TemplateProcessing", make_template}, {"BertProcessing", make_pair_of_ends},
    {"RobertaProcessing", make_roberta},   {"ByteLevel", make_byte_level},
    {"Sequence", make_sequence},
};

Made make_post_processor(const Json& json, const std::string& where) {
  return make_component<Made>(json, where, "post-processor", kPostProcessors);
}

}  // namespace

PostProcessor::PostProcessor(const Json& json, const std::string& where,
                             const std::function<bool(int64_t)>& is_known) {
  const Made made = make_post_processor(json, where);
  if (!made) return;
  before_ = made->before;
  after_ = made->after;
  for (const auto* ids : {&before_, &after_}) {
    for (const int64_t id : *ids) {
      if (!is_known(id)) throw Error(where, "the special token id " + std::to_string(id) + " is not a token");
    }
  }
}

}  // namespace ptq
