#include "step/low_rank_options.h"

#include <algorithm>

#include "ptq/base/pattern.h"
#include "ptq/report/report.h"
#include "step/options.h"

namespace ptq {
namespace {

using Variant = LowRankStepOptions::Variant;

constexpr int64_t kLargestRank = 8192;

constexpr std::initializer_list<std::pair<const char*, Variant>> kVariants = {
    {"auto", Variant::kAuto},
    {"exact", Variant::kExact},
    {"approx", Variant::kApprox},
    {"lqer", Variant::kLqer},
    {"identity", Variant::kIdentity}};
constexpr std::initializer_list<std::pair<const char*, at::ScalarType>> kStored = {
    {"bf16", at::kBFloat16}, {"f16", at::kHalf}, {"int8", at::kChar}};

int64_t checked_rank(const Json& json, const std::string& where) {
  const bool integer = json.is_number_integer();
  const int64_t rank = integer ? json.get<int64_t>() : 0;
  if (rank < 1 || rank > kLargestRank) {
    throw usage_error(where, json.dump() + " is not a rank from 1 to " + std::to_string(kLargestRank));
  }
  return rank;
}

void read_ranks(JsonFields& fields, LowRankStepOptions& options) {
  if (fields.has("rank")) options.rank = checked_rank(fields.at("rank"), fields.path() + ".rank");
  if (!fields.has("ranks")) return;
  const Json& ranks = fields.at("ranks");
  const std::string where = fields.path() + ".ranks";
  if (!ranks.is_object()) throw usage_error(where, "expected {\"pattern of linears\": rank}");
  for (const auto& [pattern, rank] : ranks.items())
    options.ranks.emplace_back(pattern, checked_rank(rank, where + "." + pattern));
}

void read_linears(JsonFields& fields, LowRankStepOptions& options) {
  if (!fields.has("linears")) return;
  const Json& linears = fields.at("linears");
  for (const Json& pattern : linears.is_array() ? linears : Json::array({linears})) {
    if (!pattern.is_string()) throw usage_error(fields.path() + ".linears", "expected patterns of names");
    options.linears.push_back(pattern.get<std::string>());
  }
}

void check_range(const std::string& where, double value, double low, double high) {
  if (value >= low && value <= high) return;
  throw usage_error(
      where, Json(value).dump() + " is outside " + format_number(low, 0) + " to " + format_number(high, 0));
}

}  // namespace

bool LowRankStepOptions::selects(const std::string& linear) const {
  return linears.empty() || std::any_of(linears.begin(), linears.end(), [&](const std::string& pattern) {
           return matches_pattern(pattern, linear);
         });
}

int64_t LowRankStepOptions::rank_of(const std::string& linear) const {
  for (const auto& [pattern, own_rank] : ranks) {
    if (matches_pattern(pattern, linear)) return own_rank;
  }
  return rank;
}

const char* LowRankStepOptions::variant_name() const {
  for (const auto& [name, value] : kVariants) {
    if (value == variant && value != Variant::kAuto) return name;
  }
  return "exact";
}

const char* LowRankStepOptions::stored_name() const {
  for (const auto& [name, value] : kStored) {
    if (value == stored) return name;
  }
  return "?";
}

LowRankStepOptions read_low_rank_options(JsonFields& fields) {
  LowRankStepOptions options;
  options.variant = choice(fields, "variant", options.variant, kVariants);
  options.shrinkage = fields.number("shrinkage", 0);
  options.target_bpw = fields.number("target_bpw", 0);
  options.rounds = fields.integer("rounds", 1);
  options.rounds_by_gptq = choice(fields, "rounding", false, {{"nearest", false}, {"gptq", true}});
  options.stored = choice(fields, "stored", options.stored, kStored);
  options.compare = fields.boolean("compare", true);
  read_ranks(fields, options);
  read_linears(fields, options);
  check_range(fields.path() + ".shrinkage", options.shrinkage, 0, 1);
  check_range(fields.path() + ".target_bpw", options.target_bpw, 0, 32);
  check_range(fields.path() + ".rounds", static_cast<double>(options.rounds), 1, 32);
  return options;
}

}  // namespace ptq
