// "did you mean": the nearest of a list of names to what the user typed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// Returns `did you mean "NAME"?` for the candidate with the smallest edit distance if that is at most a third
// of the longer name's letters, dashes in front not counted. If there is none, for the nearest of those that
// begin with what was typed or that it begins with, by three letters or more (--calibration, --calib). Else
// `one of: a, b, c`. Cost: product of the lengths per candidate.
std::string suggest(std::string_view typed, const std::vector<std::string>& candidates);

}  // namespace ptq
