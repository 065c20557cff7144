// The prompts of a file.
#pragma once

#include <string>
#include <vector>

namespace ptq {

// One a line of a text, blank lines left out; or the field "prompt" of each document of JSON, in one of the
// forms that TextFile knows. What had to be decided to read the file is added to `remarks`. Throws Error if
// there is no prompt, and as TextFile does.
std::vector<std::string> read_prompts(const std::string& path, std::vector<std::string>& remarks);

}  // namespace ptq
