// Hand-written stand-ins for the split expressions of common byte-level tokenizers: the same matches as
// Oniguruma's, an order of magnitude sooner.
#pragma once

#include <string_view>
#include <vector>

#include "tokenizer/pattern.h"

namespace ptq {

// The expression that ByteLevel splits with (GPT-2, GPT-NeoX).
inline constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Llama 3, and Qwen 2, which takes digits one at a time.
inline constexpr std::string_view kLlama3Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Expression =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Appends the matches in `text`, which cover all of it. REQUIRES: valid UTF-8.
using Splitter = void (*)(std::string_view text, std::vector<Span>& matches);

// The splitter that stands in for `expression`, or null.
Splitter find_splitter(std::string_view expression);

}  // namespace ptq
