// Scripts that complete the program's command line, made from the table of commands.
#pragma once

#include <string>
#include <vector>

#include "command_text.h"
#include "ptq/base/join.h"

namespace ptq {

// Each knows the commands, their options, and what may stand where an option's value or an argument stands:
// words, files, directories.
std::string bash_completion(const std::vector<CommandText>& commands);
std::string zsh_completion(const std::vector<CommandText>& commands);
std::string fish_completion(const std::vector<CommandText>& commands);

// What the three are written with.

// "--output", "-o".
std::vector<std::string> spellings(const OptionText& option);
// Without the default verb.
std::vector<std::string> names_of(const std::vector<CommandText>& commands);

}  // namespace ptq
