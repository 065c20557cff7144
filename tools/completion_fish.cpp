// Completion in fish 3 and later.
#include "completion.h"

namespace ptq {
namespace {

using Value = OptionText::Value;

std::string fish_text(const std::string& text) {
  return "'" + [&] {
    std::string result;
    for (const char c : text) result += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return result;
  }() + "'";
}

std::string fish_values(const OptionText& option) {
  switch (option.value) {
    case Value::kNone:
      return "";
    case Value::kWords:
      return " -x -a " + fish_text(join(option.words, " "));
    case Value::kFile:
      return " -r -F";
    case Value::kDirectory:
      return " -x -a '(__fish_complete_directories)'";
    default:
      return " -x";
  }
}

std::string fish_command(const CommandText& command) {
  const std::string line = "complete -c quantize -n '__quantize_command_is \"" + command.name + "\"'";
  std::string script;
  for (const OptionText& option : command.options) {
    if (option.positional()) {
      script += line + (option.value == Value::kFile ? std::string(" -F") : fish_values(option)) + "\n";
      continue;
    }
    script += line + " -l " + option.long_name;
    if (!option.short_name.empty()) script += " -s " + option.short_name;
    script += fish_values(option) + " -d " + fish_text(option.description) + "\n";
  }
  return script;
}

}  // namespace

std::string fish_completion(const std::vector<CommandText>& commands) {
  std::string script =
      "# fish completion of quantize, as `quantize completion fish` prints it.\n\n"
      "function __quantize_command_is\n  set -l typed (commandline -opc)\n  set -l command ''\n"
      "  if set -q typed[2]; and contains -- $typed[2] " +
      join(names_of(commands), " ") +
      "\n    set command $typed[2]\n  end\n  test \"$command\" = \"$argv[1]\"\nend\n\n"
      "function __quantize_first\n  test (count (commandline -opc)) -eq 1\nend\n\n"
      "complete -c quantize -f\ncomplete -c quantize -n __quantize_first -l version\n";
  for (const CommandText& command : commands) {
    if (command.name.empty()) continue;
    script += "complete -c quantize -n __quantize_first -a " + command.name + " -d " +
              fish_text(command.description) + "\n";
  }
  for (const CommandText& command : commands) script += fish_command(command);
  return script;
}

}  // namespace ptq
