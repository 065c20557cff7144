#include "command_text.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <set>

#include "command_table.h"
#include "declare.h"
#include "ptq/export/formats.h"
#include "ptq/method/recipe.h"

namespace ptq {
namespace {

using Words = std::vector<std::string>;

Words method_names() {
  Words names;
  for (const MethodEntry& method : methods()) names.emplace_back(method.name);
  return names;
}

// The forms that --bits takes, or --base.
Words bits_of_methods(bool by_base) {
  std::set<std::string> bits;
  for (const MethodEntry& method : methods()) {
    if (method.by_base == by_base) bits.insert(method.bits.begin(), method.bits.end());
  }
  return {bits.begin(), bits.end()};
}

// Left of the value: "quamba.percentile=".
Words recipe_fields() {
  Words fields;
  for (const MethodEntry& method : methods()) {
    const Json options = method.default_options();
    for (const auto& [key, value] : options.items()) {
      fields.push_back(std::string(method.name) + "." + key + "=");
    }
  }
  return fields;
}

Words export_names() {
  Words names;
  for (const FormatEntry& format : formats()) {
    if (format.write != nullptr) names.emplace_back(format.name);
  }
  return names;
}

// Of the options that formats have.
Words words_of_formats(const std::string& type_name) {
  Words words;
  for (const FormatEntry& format : formats()) {
    for (const FormatOption& option : format.options) {
      if (option.type != type_name) continue;
      for (const std::string& value : option.values) {
        if (std::find(words.begin(), words.end(), value) == words.end()) words.push_back(value);
      }
    }
  }
  return words;
}

// The words that a value of this type name can be. Those of an option with choices get a row here.
Words words_of(const std::string& type_name) {
  if (type_name == "METHOD") return method_names();
  if (type_name == "WxAy") return bits_of_methods(/*by_base=*/false);
  if (type_name == "BASE") return bits_of_methods(/*by_base=*/true);
  if (type_name == "EXPORT") return export_names();
  if (type_name == "PATH=VALUE") return recipe_fields();
  if (type_name == "FORM") return {"float", "int8"};
  if (type_name == "TYPE") return {"u16", "u32", "i32", "i64"};
  if (type_name == "DEVICE") return {"cpu", "cuda"};
  if (type_name == "SHELL") return {"bash", "zsh", "fish"};
  return words_of_formats(type_name);
}

OptionText describe(const CLI::Option& option) {
  OptionText text;
  text.description = option.get_description();
  text.required = option.get_required();
  text.repeatable = option.get_expected_max() > 1;
  if (!option.get_lnames().empty()) text.long_name = option.get_lnames().front();
  if (!option.get_snames().empty()) text.short_name = option.get_snames().front();
  if (option.get_items_expected_max() == 0) return text;
  const std::string full = option.get_type_name();  // with what checks say of themselves: "N:INT in [1 - 10]"
  const std::string type_name = full.substr(0, full.find(':'));
  text.value_name = text.positional() ? option.get_name() : type_name;
  text.words = words_of(text.value_name);
  if (!text.words.empty()) {
    text.value = OptionText::Value::kWords;
  } else if (text.value_name == "DIR") {
    text.value = OptionText::Value::kDirectory;
  } else {
    const bool is_file = text.positional() || text.value_name == "FILE" || text.value_name == "PATH";
    text.value = is_file ? OptionText::Value::kFile : OptionText::Value::kAny;
  }
  return text;
}

}  // namespace

std::vector<CommandText> command_texts() {
  std::vector<CommandText> texts;
  for (const Command& command : commands()) {
    CLI::App app;
    CommonOptions common;
    const std::function<void()> action = declare_command(command, app, common);
    CommandText text{command.name, command.description, {}};
    for (const CLI::Option* option : app.get_options()) text.options.push_back(describe(*option));
    std::stable_partition(text.options.begin(), text.options.end(),
                          [](const OptionText& option) { return option.positional(); });
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace ptq
