#include "ptq/base/suggest.h"

#include <algorithm>
#include <numeric>

namespace ptq {
namespace {

// Levenshtein distance, one row at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string suggest(std::string_view typed, const std::vector<std::string>& candidates) {
  const std::string* best = nullptr;
  size_t best_distance = 0;
  if (typed.size() <= 256) {  // nobody types more; a hostile file may hold it
    for (const std::string& candidate : candidates) {
      const size_t distance = edit_distance(typed, candidate);
      if (best == nullptr || distance < best_distance) {
        best = &candidate;
        best_distance = distance;
      }
    }
  }
  if (best != nullptr && best_distance <= std::max<size_t>(2, std::max(typed.size(), best->size()) / 3)) {
    return "did you mean \"" + *best + "\"?";
  }
  std::string list = "one of: ";
  for (size_t i = 0; i < candidates.size(); ++i) list += (i == 0 ? "" : ", ") + candidates[i];
  return list;
}

}  // namespace ptq
