#include "tokenizer/split.h"

#include <algorithm>

namespace ptq {
namespace {

struct Section {
  Span span;
  bool matched;
};

// Matches and the text between them.
std::vector<Section> sections_of(size_t size, const std::vector<Span>& matches, bool invert) {
  std::vector<Section> sections;
  sections.reserve(matches.size() + 1);
  size_t at = 0;
  for (const Span& match : matches) {
    if (match.begin > at) sections.push_back({{at, match.begin}, invert});
    sections.push_back({match, !invert});
    at = match.end;
  }
  if (at < size) sections.push_back({{at, size}, invert});
  return sections;
}

// Joins a matched section to the part before it unless that part ends in a match itself.
std::vector<Span> merge_with_previous(const std::vector<Section>& sections) {
  std::vector<Span> parts;
  bool previous_matched = false;
  for (const Section& section : sections) {
    if (section.matched && !previous_matched && !parts.empty()) {
      parts.back().end = section.span.end;
    } else {
      parts.push_back(section.span);
    }
    previous_matched = section.matched;
  }
  return parts;
}

std::vector<Span> merge_with_next(const std::vector<Section>& sections) {
  std::vector<Span> parts;
  bool next_matched = false;
  for (auto section = sections.rbegin(); section != sections.rend(); ++section) {
    if (section->matched && !next_matched && !parts.empty()) {
      parts.back().begin = section->span.begin;
    } else {
      parts.push_back(section->span);
    }
    next_matched = section->matched;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

// Neighbours of one kind become one part.
std::vector<Span> merge_contiguous(const std::vector<Section>& sections) {
  std::vector<Span> parts;
  bool previous_matched = false;
  for (const Section& section : sections) {
    if (section.matched == previous_matched && !parts.empty()) {
      parts.back().end = section.span.end;
    } else {
      parts.push_back(section.span);
    }
    previous_matched = section.matched;
  }
  return parts;
}

}  // namespace

std::vector<Span> split_at(size_t size, const std::vector<Span>& matches, SplitBehavior behavior,
                           bool invert) {
  const std::vector<Section> sections = sections_of(size, matches, invert);
  if (behavior == SplitBehavior::kMergedWithPrevious) return merge_with_previous(sections);
  if (behavior == SplitBehavior::kMergedWithNext) return merge_with_next(sections);
  if (behavior == SplitBehavior::kContiguous) return merge_contiguous(sections);
  std::vector<Span> parts;
  parts.reserve(sections.size());
  for (const Section& section : sections) {
    if (!section.matched || behavior == SplitBehavior::kIsolated) parts.push_back(section.span);
  }
  return parts;
}

}  // namespace ptq
