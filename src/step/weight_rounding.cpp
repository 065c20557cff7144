#include "step/weight_rounding.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/step/weight_clips.h"
#include "step/options.h"

namespace ptq {
namespace {

WeightScheme read_scheme(JsonFields& options) {
  WeightScheme scheme;
  scheme.bits = bits_option(options, 8, 4, 8);
  if (scheme.bits % 2 != 0) {
    throw usage_error(options.path() + ".bits",
                      std::to_string(scheme.bits) + " bits; 4, 6 and 8 are supported");
  }
  scheme.symmetric = options.boolean("symmetric", true);
  const std::string granularity = choice(options, "granularity", "channel", {"tensor", "channel", "group"});
  if (granularity == "tensor") scheme.granularity = Granularity::kTensor;
  if (granularity == "channel") scheme.granularity = Granularity::kChannel;
  if (granularity == "group") {
    scheme.granularity = Granularity::kGroup;
    scheme.group = options.integer("group", 128);
    scheme.half_scales = true;
    if (scheme.group < 8 || scheme.group > 65536) {
      throw usage_error(options.path() + ".group",
                        std::to_string(scheme.group) + " weights a group; 8 to 65536 are supported");
    }
  }
  return scheme;
}

}  // namespace

WeightRounding::WeightRounding(JsonFields& options)
    : scheme_(read_scheme(options)), samples_(samples_option(options, 4096)) {
  if (options.has("clip") && options.at("clip") == "search") {
    search_ = true;
    if (scheme_.granularity == Granularity::kTensor) {
      throw usage_error(options.path() + ".clip", "is searched for each channel or group, not for a tensor",
                        "granularity = \"channel\"");
    }
  } else {
    clip_ = options.number("clip", 1);
  }
  if (!(clip_ > 0 && clip_ <= 1)) {
    throw usage_error(options.path() + ".clip", std::to_string(clip_) + " is outside (0, 1]",
                      "a factor such as 0.8, or \"search\"");
  }
}

Tensor WeightRounding::clips(const Tensor& W, const Tensor& M) const {
  if (search_) return choose_weight_clips(W, M, scheme_);
  return clip_ == 1 ? Tensor() : at::full({1}, clip_, W.options());
}

std::vector<std::string> WeightRounding::sites(Block& block) const {
  std::vector<std::string> sites;
  for (const Linear* linear : block.linears()) {
    const bool listed = std::find(sites.begin(), sites.end(), linear->site) != sites.end();
    if (linear->min_bits <= scheme_.bits && !listed) sites.push_back(linear->site);
  }
  return sites;
}

std::vector<LinearGroup> WeightRounding::groups(Block& block, StepContext& context) const {
  std::vector<LinearGroup> groups;
  for (Linear* linear : block.linears()) {
    if (context.skip(linear->name)) {
      context.remarks.push_back({linear->name, "kept in float", "skipped by the recipe"});
      continue;
    }
    if (linear->min_bits > scheme_.bits) {
      context.remarks.push_back(
          {linear->name, "kept in float",
           "the architecture allows no fewer than " + std::to_string(linear->min_bits) + " bits here"});
      continue;
    }
    const auto found = std::find_if(groups.begin(), groups.end(),
                                    [&](const LinearGroup& group) { return group.site == linear->site; });
    if (found != groups.end()) {
      found->linears.push_back(linear);
    } else {
      groups.push_back({linear->site, {linear}});
    }
  }
  return groups;
}

Tensor rounded_second_moment(const Site& site, const SiteStatistics& statistics) {
  return second_moment(site.quantizer(statistics.samples).dequantize());
}

}  // namespace ptq
