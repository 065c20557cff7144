// quantize completion SHELL: a script that completes the command line in that shell.
#include "commands.h"
#include "completion.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

struct Shell {
  const char* name;
  std::string (*script)(const std::vector<CommandText>& commands);
};
constexpr Shell kShells[] = {{"bash", bash_completion}, {"zsh", zsh_completion}, {"fish", fish_completion}};

}  // namespace

std::vector<std::string> spellings(const OptionText& option) {
  std::vector<std::string> names = {"--" + option.long_name};
  if (!option.short_name.empty()) names.push_back("-" + option.short_name);
  return names;
}

std::vector<std::string> names_of(const std::vector<CommandText>& commands) {
  std::vector<std::string> names;
  for (const CommandText& command : commands) {
    if (!command.name.empty()) names.push_back(command.name);
  }
  return names;
}

void completion_command(const CompletionOptions& options) {
  std::vector<std::string> names;
  for (const Shell& shell : kShells) {
    if (options.shell == shell.name) {
      print(shell.script(command_texts()));
      return;
    }
    names.emplace_back(shell.name);
  }
  throw usage_error("completion", "\"" + options.shell + "\" is not a shell that it knows",
                    suggest(options.shell, names));
}

}  // namespace ptq
