#include "step/rival_format.h"

#include <vector>

#include "ptq/solve/low_rank.h"

namespace ptq {
namespace {

constexpr int64_t kGroups[] = {8, 16, 32, 64, 128};  // ascending

bool fits(const WeightScheme& scheme, const Tensor& W, double bits) {
  return scheme.bits_per_weight(W.size(0), W.size(1)) <= bits;
}

// The same numbers in the smallest groups that fit.
std::optional<WeightScheme> smaller_groups(const Tensor& W, const WeightScheme& base, double bits) {
  for (const int64_t group : kGroups) {
    WeightScheme scheme = base;
    const bool grouped = base.granularity == Granularity::kGroup;
    if (grouped ? group >= base.group : group >= W.size(1)) return {};
    if (!grouped) {
      scheme.half_scales = true;
      scheme.plain_scales = true;
    }
    scheme.granularity = Granularity::kGroup;
    scheme.group = group;
    if (fits(scheme, W, bits)) return scheme;
  }
  return {};
}

// More bits in the same groups.
std::optional<WeightScheme> more_bits(const Tensor& W, const WeightScheme& base, double bits) {
  if (base.format == NumberFormat::kNf4) return {};
  for (const int wider : {8, 6, 4, 3}) {
    WeightScheme scheme = base;
    scheme.bits = wider;
    if (wider > base.bits && fits(scheme, W, bits)) return scheme;
  }
  return {};
}

}  // namespace

std::string format_name(const WeightScheme& scheme) {
  std::string name = scheme.format == NumberFormat::kInteger ? "int" : number_format_name(scheme.format);
  if (scheme.format != NumberFormat::kNf4) name += std::to_string(scheme.bits);
  if (scheme.granularity == Granularity::kGroup)
    return name + " in groups of " + std::to_string(scheme.group);
  return name + " per " + granularity_name(scheme.granularity);
}

std::optional<RivalFormat> best_rival(const Tensor& W, const WeightScheme& base, double bits,
                                      const Tensor& R) {
  std::optional<RivalFormat> best;
  for (const auto& scheme : {smaller_groups(W, base, bits), more_bits(W, base, bits)}) {
    if (!scheme) continue;
    const double energy = output_energy(W - dequantize(round_to_nearest(W, *scheme)), R);
    if (best && best->energy <= energy) continue;
    best = RivalFormat{format_name(*scheme), scheme->bits_per_weight(W.size(0), W.size(1)), energy};
  }
  return best;
}

}  // namespace ptq
