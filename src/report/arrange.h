// Rows of a report arranged for reading: by kind ("self_attn.q_proj") and by block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ptq/report/report.h"

namespace ptq {

struct Place {
  std::string kind;
  std::optional<int64_t> block;
};

// Where the layer or site of this name is: "model.layers.3.self_attn.q_proj" is "self_attn.q_proj" of block
// 3, "model.layers.3.sites.attn.q" is "attn.q" of it. Further numbers (of experts) become "*". A name without
// a number is a kind of its own.
Place place_of(const std::string& name);

// The rows of one kind, each with the column of its block.
template <typename Row>
struct Kind {
  struct Entry {
    size_t column;
    const Row* row;
  };
  std::string name;
  std::vector<Entry> entries;
};

template <typename Row>
struct Arrangement {
  std::vector<int64_t> blocks;        // the index of each column, ascending
  std::vector<Kind<Row>> kinds;       // in the order of the rows
  std::vector<const Row*> elsewhere;  // outside the blocks
};

// The rows for which `wanted(row)`; they must outlive the result.
template <typename Row, typename Wanted>
Arrangement<Row> arrange(const std::vector<Row>& rows, Wanted wanted) {
  std::set<int64_t> blocks;
  for (const Row& row : rows) {
    const Place place = place_of(row.name);
    if (wanted(row) && place.block) blocks.insert(*place.block);
  }
  Arrangement<Row> arrangement;
  arrangement.blocks.assign(blocks.begin(), blocks.end());
  std::map<std::string, size_t> index;
  for (const Row& row : rows) {
    if (!wanted(row)) continue;
    const Place place = place_of(row.name);
    if (!place.block) {
      arrangement.elsewhere.push_back(&row);
      continue;
    }
    const auto [found, is_first] = index.emplace(place.kind, arrangement.kinds.size());
    if (is_first) arrangement.kinds.push_back({place.kind, {}});
    const auto column = std::lower_bound(arrangement.blocks.begin(), arrangement.blocks.end(), *place.block) -
                        arrangement.blocks.begin();
    arrangement.kinds[found->second].entries.push_back({static_cast<size_t>(column), &row});
  }
  return arrangement;
}

// What the layers of one kind have in common.
struct KindSummary {
  std::string name;
  size_t layers = 0;
  double least_bits = 0, most_bits = 0;
  std::optional<double> least_sqnr_db, median_sqnr_db;  // of the outputs
  double error_share = 0;
};

// One for each kind of `layers`, those outside the blocks too.
std::vector<KindSummary> summarize_kinds(const std::vector<LayerRow>& layers);

// Equal remarks, once: the first of them and how many there are.
std::vector<std::pair<Remark, int64_t>> group_remarks(const std::vector<Remark>& remarks);
// "the first place and 7 more: what (why)".
std::string remark_line(const Remark& remark, int64_t count);

}  // namespace ptq
