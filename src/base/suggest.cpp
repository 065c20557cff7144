#include "ptq/base/suggest.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ptq {
namespace {

constexpr size_t kLetters = 3;  // names with fewer look like too many others

std::string_view without_dashes(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  return name;
}

// Letters to insert, delete, change or swap with their neighbour; three rows at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> earlier, above(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    earlier = std::exchange(above, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], earlier[j - 2] + 1);
    }
  }
  return row[b.size()];
}

// Whether one of two names is the beginning of the other.
bool one_begins_the_other(std::string_view a, std::string_view b) {
  const size_t shared = std::min(a.size(), b.size());
  return shared >= kLetters && a.substr(0, shared) == b.substr(0, shared);
}

}  // namespace

std::string suggest(std::string_view typed, const std::vector<std::string>& candidates) {
  struct Nearest {
    const std::string* name = nullptr;
    size_t distance = 0;
    void offer(const std::string& candidate, size_t its_distance) {
      if (name != nullptr && its_distance >= distance) return;
      name = &candidate;
      distance = its_distance;
    }
  };
  Nearest misspelled, longer_or_shorter;
  if (typed.size() <= 256) {  // nobody types more; a hostile file may hold it
    const std::string_view a = without_dashes(typed);
    for (const std::string& candidate : candidates) {
      const std::string_view b = without_dashes(candidate);
      const size_t distance = edit_distance(typed, candidate), longer = std::max(a.size(), b.size());
      if (longer >= kLetters && distance <= longer / kLetters) misspelled.offer(candidate, distance);
      if (one_begins_the_other(a, b)) longer_or_shorter.offer(candidate, distance);
    }
  }
  const std::string* best = misspelled.name != nullptr ? misspelled.name : longer_or_shorter.name;
  if (best != nullptr) return "did you mean \"" + *best + "\"?";
  std::string list = "one of: ";
  for (size_t i = 0; i < candidates.size(); ++i) list += (i == 0 ? "" : ", ") + candidates[i];
  return list;
}

}  // namespace ptq
