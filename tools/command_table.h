// The table of commands that dispatch, help, shell completion and the man page walk.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "commands.h"
#include "ptq/base/error.h"

namespace CLI {
class App;
}

namespace ptq {

struct Command {
  const char* name;  // "" is the default verb
  const char* description;
  // Declares the options on `app`, which outlives the returned action.
  std::function<void()> (*declare)(CLI::App& app, CommonOptions& common);
};

// The default verb first, then in the order of the help.
std::span<const Command> commands();

// Without the default verb.
std::vector<std::string> command_names();

// What a script reads from the program's exit code.
struct ExitCodeText {
  ExitCode code;
  const char* meaning;
};
std::span<const ExitCodeText> exit_codes();

}  // namespace ptq
