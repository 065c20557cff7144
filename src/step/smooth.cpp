// Moves the spread of activation channels into the weights (SmoothQuant, arXiv 2211.10438).
//
// A channel that is a hundred times larger than the others decides the activation scale, while weights are
// even. Divide the channel by s where it is made, multiply the column that reads it by s: the product is the
// same, and with s = a^alpha / w^(1 - alpha) both sides share the difficulty. Only where the maker is linear
// in its channels' scale can the division be folded: those are the fold edges that the architecture declares,
// and no other site is touched. Cost: one pass for the channels' maxima; nothing at run time.
//
// Where query heads share a value head, several channels of o_proj's input are made by one row: they take the
// largest of their scales. DuQuant's authors divide online there instead. All scales are computed from the
// weights as they were before any folding.
#include "ptq/base/error.h"
#include "ptq/step/rewrites.h"
#include "step/options.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class SmoothStep : public Step {
 public:
  explicit SmoothStep(JsonFields& options)
      : alpha_(options.number("alpha", 0.5)),
        floor_(options.number("floor", 1e-5)),
        first_only_(choice(options, "columns", false, {{"all", false}, {"first", true}})) {
    options.finish();
    if (!(alpha_ >= 0 && alpha_ <= 1)) {
      throw usage_error(options.path() + ".alpha", std::to_string(alpha_) + " is outside [0, 1]");
    }
    if (!(floor_ > 0 && floor_ <= 1)) {
      throw usage_error(options.path() + ".floor", std::to_string(floor_) + " is outside (0, 1]");
    }
  }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    for (const FoldEdge& edge : sublayer.fold_edges()) needs[edge.sites.front()].channel_abs_max = true;
    return needs;
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    const std::vector<FoldEdge> edges = sublayer.fold_edges();
    std::vector<Tensor> scales;
    for (const FoldEdge& edge : edges) {
      expect_untransformed(sublayer, edge);
      const SiteStatistics& statistics = context.statistics.at(edge.sites.front());
      const Tensor& a = statistics.channel_abs_max;
      if (statistics.all_zero()) {
        context.remarks.fallbacks.push_back(
            {sublayer.prefix + "." + edge.sites.front(), "not smoothed", kNoActivity});
        scales.push_back(at::ones_like(a));
        continue;
      }
      scales.push_back(share_scales(edge, smoothing_scales(a, column_maxima(edge), alpha_, floor_)));
    }
    for (size_t i = 0; i < edges.size(); ++i) smooth_edge(sublayer, edges[i], scales[i], context.statistics);
  }

  void plan(Sublayer& sublayer, PlanContext&) const override {
    for (const FoldEdge& edge : sublayer.fold_edges()) {
      expect_untransformed(sublayer, edge);
      const Weight& read = edge.readers.front()->weight;
      for (const std::string& site : edge.sites)
        sublayer.site(site).smooth = at::empty({read.size(1)}, at::TensorOptions(read.device()));
    }
  }

 private:
  static void expect_untransformed(Sublayer& sublayer, const FoldEdge& edge) {
    for (const std::string& site : edge.sites) {
      if (sublayer.site(site).transform.empty()) continue;
      throw usage_error(sublayer.prefix + "." + site,
                        "channels that a transform has mixed cannot be smoothed", "the step smooth first");
    }
  }

  // max |W[:, c]| over the readers, or over the first one as DuQuant does. [channels]
  Tensor column_maxima(const FoldEdge& edge) const {
    Tensor maxima;
    for (const Linear* reader : edge.readers) {
      const Tensor columns = reader->weight.values().abs().amax(0);
      maxima = maxima.defined() ? at::maximum(maxima, columns) : columns;
      if (first_only_) break;
    }
    return maxima;
  }

  double alpha_;
  double floor_;
  bool first_only_;
};

}  // namespace

std::unique_ptr<Step> make_smooth_step(JsonFields& options) {
  return std::make_unique<SmoothStep>(options);
}

}  // namespace ptq
