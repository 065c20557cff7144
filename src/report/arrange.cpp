#include "report/arrange.h"

namespace ptq {
namespace {

std::vector<std::string> split_at_dots(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// At most 9 digits: enough for an index, and it fits.
bool is_index(const std::string& part) {
  return !part.empty() && part.size() <= 9 && part.find_first_not_of("0123456789") == std::string::npos;
}

struct Tally {
  KindSummary summary;
  std::vector<double> sqnr_db;
};

}  // namespace

Place place_of(const std::string& name) {
  const std::vector<std::string> parts = split_at_dots(name);
  const auto first = std::find_if(parts.begin(), parts.end(), is_index);
  if (first == parts.end() || first + 1 == parts.end()) return {name, {}};
  const auto sites = std::find(first, parts.end(), "sites");
  Place place{"", std::stoll(*first)};
  for (auto part = sites == parts.end() ? first + 1 : sites + 1; part != parts.end(); ++part)
    place.kind += (place.kind.empty() ? "" : ".") + (is_index(*part) ? "*" : *part);
  if (place.kind.ends_with(".weight")) place.kind.resize(place.kind.size() - 7);
  return place;
}

std::vector<KindSummary> summarize_kinds(const std::vector<LayerRow>& layers) {
  std::vector<Tally> tallies;
  std::map<std::string, size_t> index;
  for (const LayerRow& layer : layers) {
    const std::string kind = place_of(layer.name).kind;
    const auto [found, is_first] = index.emplace(kind, tallies.size());
    if (is_first) tallies.push_back({{kind, 0, layer.bits, layer.bits, {}, {}, 0}, {}});
    Tally& tally = tallies[found->second];
    ++tally.summary.layers;
    tally.summary.least_bits = std::min(tally.summary.least_bits, layer.bits);
    tally.summary.most_bits = std::max(tally.summary.most_bits, layer.bits);
    tally.summary.error_share += layer.relative_error;
    if (layer.output_sqnr_db) tally.sqnr_db.push_back(*layer.output_sqnr_db);
  }
  std::vector<KindSummary> summaries;
  for (Tally& tally : tallies) {
    std::sort(tally.sqnr_db.begin(), tally.sqnr_db.end());
    if (!tally.sqnr_db.empty()) {
      tally.summary.least_sqnr_db = tally.sqnr_db.front();
      tally.summary.median_sqnr_db = tally.sqnr_db[tally.sqnr_db.size() / 2];
    }
    summaries.push_back(tally.summary);
  }
  return summaries;
}

std::vector<std::pair<Remark, int64_t>> group_remarks(const std::vector<Remark>& remarks) {
  std::vector<std::pair<Remark, int64_t>> groups;
  std::map<std::pair<std::string, std::string>, size_t> index;
  for (const Remark& row : remarks) {
    const auto [found, is_first] = index.emplace(std::pair(row.what, row.why), groups.size());
    if (is_first) groups.emplace_back(row, 0);
    ++groups[found->second].second;
  }
  return groups;
}

std::string remark_line(const Remark& remark, int64_t count) {
  const std::string others = count > 1 ? " and " + std::to_string(count - 1) + " more" : "";
  return remark.where + others + ": " + remark.what + " (" + remark.why + ")";
}

}  // namespace ptq
