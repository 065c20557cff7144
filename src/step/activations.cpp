// Gives the activation sites of a block their quantizers.
#include <algorithm>
#include <array>
#include <cmath>

#include "ptq/base/error.h"
#include "ptq/solve/head_clusters.h"
#include "ptq/step/clip_search.h"
#include "step/options.h"
#include "step/site_selection.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class ActivationsStep : public Step {
 public:
  explicit ActivationsStep(JsonFields& options)
      : dynamic_(choice(options, "scales", false, {{"static", false}, {"dynamic", true}})),
        sites_(options, "all"),
        bits_(bits_option(options, 8, 2, 8)),
        symmetric_(options.boolean("symmetric", true)),
        clip_factor_(options.number("clip_factor", 1)) {
    mode_ = choice(options, "observer", PercentileMode::kMoving,
                   {{"moving", PercentileMode::kMoving}, {"exact", PercentileMode::kExact}});
    percentile_option_ = options.path() + ".percentile_site";
    percentile_site_ = options.string("percentile_site", "");
    search_rows_ = options.integer("search_rows", 4);
    if (search_rows_ < 1) throw usage_error(options.path() + ".search_rows", "must be at least 1");
    clip_all_ = choice(options, "clip", true, {{"all", true}, {"percentile_site", false}});
    scales_ = choice(options, "granularity", Scales::kTensor,
                     {{"tensor", Scales::kTensor}, {"part", Scales::kPart}, {"channel", Scales::kChannel}});
    read_percentile(options);
    options.finish();
    if (!(clip_factor_ > 0 && clip_factor_ <= 1)) {
      throw usage_error(options.path() + ".clip_factor", std::to_string(clip_factor_) + " is outside (0, 1]");
    }
    if (dynamic_ && scales_ != Scales::kTensor)
      throw usage_error(options.path() + ".granularity", "is for static scales");
    if (!dynamic_ && (!symmetric_ || clip_factor_ != 1)) {
      throw usage_error(options.path(), "static scales are symmetric and are clipped by a percentile",
                        "scales = \"dynamic\" takes symmetric and clip_factor");
    }
  }

  void check(const std::vector<Sublayer*>& sublayers) const override {
    sites_.check(sublayers);
    if (!percentile_site_.empty()) expect_site(sublayers, percentile_site_, percentile_option_);
  }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    if (dynamic_) return needs;
    for (const std::string& name : sites_.names(sublayer)) {
      const Site& site = sublayer.site(name);
      needs[name].abs_max = true;
      needs[name].channel_abs_max = has_scales(site);
      needs[name].channel_mean_abs = has_scales(site) && has_clusters(site);
    }
    if (!has_percentile_site(sublayer)) return needs;
    SiteNeeds& clipped = needs[percentile_site_];
    clipped.mode = mode_;
    if (auto_)
      clipped.percentiles = {kPercentiles.begin(), kPercentiles.end()};
    else if (percentile_ < 1)
      clipped.percentiles = {percentile_};
    return needs;
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    for (const std::string& name : sites_.names(sublayer)) {
      Site& site = unrounded(sublayer, name);
      if (dynamic_) {
        site.quantizer = per_token(site);
        continue;
      }
      const SiteStatistics& statistics = context.statistics.at(name);
      if (statistics.abs_max == 0) {
        context.remarks.fallbacks.push_back(
            {sublayer.prefix + "." + name, "the smallest scale was used", kNoActivity});
      }
      Tensor amax = covered(site, statistics);
      if (name == percentile_site_ && !auto_ && percentile_ < 1)
        amax = amax.clamp_max(statistics.percentiles.at(percentile_));
      site.quantizer = ActivationQuantizer::covering(amax, bits_);
    }
    if (auto_ && !dynamic_) choose_clips(sublayer, context);
  }

  void plan(Sublayer& sublayer, PlanContext& context) const override {
    const std::vector<std::string> names = sites_.names(sublayer);
    for (const std::string& name : names) {
      Site& site = unrounded(sublayer, name);
      const Tensor amax = at::ones({has_scales(site) ? site.channels : 1});
      site.quantizer = dynamic_ ? per_token(site) : ActivationQuantizer::covering(amax, bits_);
    }
    if (dynamic_ || !auto_ || names.empty()) return;
    context.cost.forward_windows = search_rows_;
    context.cost.forwards = 1;
    if (has_percentile_site(sublayer)) context.cost.forwards += static_cast<double>(kPercentiles.size());
    if (clip_all_) context.cost.forwards += static_cast<double>(kFractions.size() * names.size());
  }

 private:
  ActivationQuantizer per_token(const Site& site) const {
    return ActivationQuantizer::per_token(bits_, symmetric_, clip_factor_, site.head_dim);
  }

  bool has_percentile_site(Sublayer& sublayer) const {
    return sublayer.find_site(percentile_site_) != nullptr;
  }

  static constexpr std::array<double, 4> kPercentiles = {.99999, .9999, .9995, .999};
  static constexpr std::array<double, 6> kFractions = {.9, .8, .7, .6, .5, .4};

  // The site, which no other step may have given a quantizer.
  static Site& unrounded(Sublayer& sublayer, const std::string& name) {
    Site& site = sublayer.site(name);
    if (site.quantizer.kind == ActivationQuantizer::Kind::kNone) return site;
    throw usage_error(sublayer.prefix + "." + name, "is rounded already by an earlier step \"activations\"",
                      "one of the two, or sites that they do not share");
  }

  void read_percentile(JsonFields& options) {
    if (!options.has("percentile")) return;
    const Json& value = options.at("percentile");
    auto_ = value == "auto";
    if (auto_) return;
    if (!value.is_number() || !(value.get<double>() > 0 && value.get<double>() <= 1)) {
      throw usage_error(options.path() + ".percentile", value.dump() + " is not a percentile",
                        "\"auto\", 1 (abs-max), or a number such as 0.99999");
    }
    percentile_ = value.get<double>();
  }

  // Whether the site gets more scales than one.
  bool has_scales(const Site& site) const {
    if (scales_ == Scales::kChannel || site.kind == kStateSite) return site.channels > 0;
    return scales_ == Scales::kPart && (!site.parts.empty() || has_clusters(site));
  }
  bool has_clusters(const Site& site) const { return scales_ == Scales::kPart && site.heads.heads > 0; }

  // What a channel's largest |x| among few tokens is multiplied by: that of n normal values grows as the root
  // of ln n.
  static double margin(int64_t tokens) {
    constexpr double kEnough = 4096;
    const double n = std::max<double>(static_cast<double>(tokens), 2);
    return std::max(1.0, std::sqrt(std::log(kEnough) / std::log(n)));
  }

  // The largest |x| that each scale has to cover: [channels], or [1] where the site has one scale.
  Tensor covered(const Site& site, const SiteStatistics& statistics) const {
    if (!has_scales(site)) return at::full({1}, statistics.abs_max, at::kDouble);
    const Tensor amax = statistics.channel_abs_max.cpu();
    if (has_clusters(site)) {
      const Tensor cluster = cluster_heads(statistics.channel_mean_abs, site.heads.heads, site.heads.groups,
                                           ClusterFeatures::kAsPublished)
                                 .cluster_of_channel();
      const Tensor largest = at::zeros({cluster.max().item<int64_t>() + 1}, amax.options());
      return largest.scatter_reduce(0, cluster, amax, "amax").index_select(0, cluster);
    }
    if (scales_ != Scales::kPart || site.parts.empty())
      return (amax * margin(statistics.tokens)).clamp_max(statistics.abs_max);
    std::vector<Tensor> parts;
    for (const Tensor& part : amax.split_with_sizes(site.parts))
      parts.push_back(part.amax().expand({part.size(0)}));
    return at::cat(parts);
  }

  // Percentiles where they were measured, else fractions of the largest |x|.
  ClipLadder ladder_of(const Site& site, const SiteStatistics& statistics) const {
    ClipLadder ladder{site.name, {}, /*descending=*/site.name != percentile_site_};
    const Tensor amax = covered(site, statistics);
    const auto add = [&](const Tensor& most) {
      ladder.candidates.push_back(ActivationQuantizer::covering(most, bits_));
    };
    if (site.name == percentile_site_) {
      for (const double p : kPercentiles) add(amax.clamp_max(statistics.percentiles.at(p)));
    } else {
      for (const double fraction : kFractions) add(amax * fraction);
    }
    return ladder;
  }

  void choose_clips(Sublayer& sublayer, StepContext& context) const {
    std::vector<ClipLadder> ladders;
    if (has_percentile_site(sublayer)) {
      ladders.push_back(ladder_of(sublayer.site(percentile_site_), context.statistics.at(percentile_site_)));
    }
    if (clip_all_) {
      for (const std::string& name : sites_.names(sublayer)) {
        if (name != percentile_site_)
          ladders.push_back(ladder_of(sublayer.site(name), context.statistics.at(name)));
      }
    }
    if (ladders.empty()) return;
    if (context.processes.is_first()) {
      const int64_t windows = std::min(search_rows_, context.inputs.size(0));
      search_clips(sublayer, ladders, context.inputs.slice(0, 0, windows),
                   context.outputs.slice(0, 0, windows));
    }
    if (context.processes.is_alone()) return;
    Parcel scales;
    for (const ClipLadder& ladder : ladders) scales.add(sublayer.site(ladder.site).quantizer.scale);
    context.processes.broadcast(scales);
    ParcelReader reader(scales);
    for (const ClipLadder& ladder : ladders) sublayer.site(ladder.site).quantizer.scale = reader.tensor();
  }

  enum class Scales {
    kTensor,   // one a site
    kPart,     // one for each kind of a site's channels, and for each cluster of a scan's heads and channels
    kChannel,  // one a channel, where no product of codes reads them
  };

  bool dynamic_;
  SiteSelection sites_;
  int bits_;
  bool symmetric_;      // dynamic scales only
  double clip_factor_;  // dynamic scales only
  bool auto_ = false;
  double percentile_ = 1;
  PercentileMode mode_ = PercentileMode::kMoving;
  std::string percentile_option_, percentile_site_;
  int64_t search_rows_ = 4;
  bool clip_all_ = true;
  Scales scales_ = Scales::kTensor;
};

}  // namespace

std::unique_ptr<Step> make_activations_step(JsonFields& options) {
  return std::make_unique<ActivationsStep>(options);
}

}  // namespace ptq
