// Completion in bash 4 and later; the package bash-completion is not needed.
#include "completion.h"

namespace ptq {
namespace {

using Value = OptionText::Value;

// The first argument without a name, or null.
const OptionText* argument(const CommandText& command) {
  const bool has_one = !command.options.empty() && command.options.front().positional();
  return has_one ? &command.options.front() : nullptr;
}

std::string bash_values(Value value, const std::vector<std::string>& words) {
  switch (value) {
    case Value::kWords:
      return "_quantize_words \"" + join(words, " ") + "\"";
    case Value::kFile:
      return "_quantize_files -f";
    case Value::kDirectory:
      return "_quantize_files -d";
    default:
      return ":";
  }
}

std::string bash_command(const CommandText& command) {
  std::string cases, names;
  for (const OptionText& option : command.options) {
    if (option.positional()) continue;
    const std::vector<std::string> spelled = spellings(option);
    names += (names.empty() ? "" : " ") + join(spelled, " ");
    if (option.value == Value::kNone) continue;
    cases +=
        "        " + join(spelled, "|") + ") " + bash_values(option.value, option.words) + "; return ;;\n";
  }
  const OptionText* const first = argument(command);
  return "    '" + command.name + "')\n      case $prev in\n" + cases +
         "      esac\n      if [[ $cur == -* ]]; then\n        _quantize_words \"" + names +
         "\"\n      else\n        " + (first == nullptr ? ":" : bash_values(first->value, first->words)) +
         "\n      fi\n      ;;\n";
}

}  // namespace

std::string bash_completion(const std::vector<CommandText>& commands) {
  const std::vector<std::string> names = names_of(commands);
  std::string script = R"(# bash completion of quantize, as `quantize completion bash` prints it.

_quantize_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
  if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}

_quantize_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

_quantize() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=
  COMPREPLY=()
  # --option=value arrives as three words.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
  if ((COMP_CWORD > 1)); then
    case ${COMP_WORDS[1]} in
)";
  script += "      " + join(names, "|") + ") command=${COMP_WORDS[1]} ;;\n    esac\n  fi\n";
  script += "  case $command in\n";
  for (const CommandText& command : commands) script += bash_command(command);
  script += R"(  esac
  if ((COMP_CWORD == 1)); then  # a command or a model
)";
  script += "    mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -W \"" + join(names, " ") +
            " --version\" -- \"$cur\")\n";
  return script + "  fi\n}\n\ncomplete -F _quantize quantize\n";
}

}  // namespace ptq
