// Completion in zsh, by _arguments.
#include "completion.h"

namespace ptq {
namespace {

using Value = OptionText::Value;

// For a text in single quotes, with `special` taken literally.
std::string escaped(const std::string& text, const std::string& special) {
  std::string result;
  for (const char c : text) {
    if (special.find(c) != std::string::npos) result += '\\';
    result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return result;
}

std::string zsh_values(const OptionText& option) {
  switch (option.value) {
    case Value::kWords: {
      const bool unfinished = option.words.front().ends_with("=");
      return unfinished ? "{compadd -S \"\" -- " + join(option.words, " ") + "}"
                        : "(" + join(option.words, " ") + ")";
    }
    case Value::kFile:
      return "_files";
    case Value::kDirectory:
      return "_files -/";
    default:
      return " ";
  }
}

std::string zsh_option(const OptionText& option) {
  const std::string name = escaped(option.value_name, ":[]");
  if (option.positional()) return (option.repeatable ? "'*:" : "':") + name + ":" + zsh_values(option) + "'";
  const bool has_value = option.value != Value::kNone;
  const std::string text = "[" + escaped(option.description, "[]:") + "]" +
                           (has_value ? ":" + name + ":" + zsh_values(option) : "");
  const std::string longer = "--" + option.long_name + (has_value ? "=" : "");
  if (option.short_name.empty()) return (option.repeatable ? "'*" : "'") + longer + text + "'";
  const std::string shorter = "-" + option.short_name + (has_value ? "+" : "");
  return "'(" + join(spellings(option), " ") + ")'{" + shorter + "," + longer + "}'" + text + "'";
}

}  // namespace

std::string zsh_completion(const std::vector<CommandText>& commands) {
  std::string script =
      "#compdef quantize\n# zsh completion of quantize, as `quantize completion zsh` prints it.\n\n"
      "_quantize() {\n  local -a commands=(\n";
  for (const CommandText& command : commands) {
    if (command.name.empty()) continue;
    script += "    '" + command.name + ":" + escaped(command.description, ":") + "'\n";
  }
  script += "  )\n  local command=\n  if ((CURRENT > 2)); then\n    case $words[2] in\n      " +
            join(names_of(commands), "|") +
            ") command=$words[2]; shift words; ((CURRENT--)) ;;\n    esac\n"
            "  elif [[ $words[2] != -* ]]; then\n    _describe -t commands command commands\n  fi\n"
            "  case $command in\n";
  for (const CommandText& command : commands) {
    script += "    '" + command.name + "')\n      _arguments";
    for (const OptionText& option : command.options) script += " \\\n        " + zsh_option(option);
    script += "\n      ;;\n";
  }
  // Sourced, it registers itself; found in $fpath, it is the function.
  return script +
         "  esac\n}\n\nif [[ $funcstack[1] == _quantize ]]; then\n  _quantize \"$@\"\nelse\n"
         "  compdef _quantize quantize\nfi\n";
}

}  // namespace ptq
