// Words for a command that somebody will paste into a shell.
#pragma once

#include <string>

namespace ptq {

// `word` so that a shell reads it as it is: in quotes if it has characters that a shell looks at.
std::string shell_word(const std::string& word);

}  // namespace ptq
