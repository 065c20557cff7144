// Which parts of a text remain when it is split at matches: the behaviors of tokenizer.json.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/pattern.h"

namespace ptq {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

inline constexpr std::pair<std::string_view, SplitBehavior> kSplitBehaviors[] = {
    {"Removed", SplitBehavior::kRemoved},
    {"Isolated", SplitBehavior::kIsolated},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
};

// The parts of a text of `size` bytes, in order. With `invert`, what lies between matches counts as matched.
// Parts can be empty where a match is.
std::vector<Span> split_at(size_t size, const std::vector<Span>& matches, SplitBehavior behavior,
                           bool invert);

}  // namespace ptq
