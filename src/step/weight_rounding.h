// What the steps that round weights share: their options, and the walk over a sublayer's linears.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ptq/codec/quantized_tensor.h"
#include "ptq/step/step.h"

namespace ptq {

// Linears that read one site, to be rounded with one second moment.
struct LinearGroup {
  std::string site;
  std::vector<Linear*> linears;
};

class WeightRounding {
 public:
  // format ("integer", "mxint", "nf4"), bits, granularity, group, symmetric, scales ("centered", "plain": see
  // WeightScheme), clip (a factor, or "search"), samples.
  explicit WeightRounding(JsonFields& options);

  const WeightScheme& scheme() const { return scheme_; }
  bool searches_clips() const { return search_; }
  // Tokens from which the second moment of rounded activations is made.
  int64_t samples() const { return samples_; }
  // scheme(), with float32 scales where float16 does not hold those of the weight: a fallback says so.
  WeightScheme scheme_for(const Linear& linear, Remarks& remarks) const;
  // The clip of each scale of W: searched under M, or the fixed one.
  Tensor clips(const Tensor& W, const Tensor& M, const WeightScheme& scheme) const;
  // [1], undefined if it is 1.
  Tensor fixed_clip(const Tensor& W) const;

  // The linears to round, by site, in forward order; for the others a decision says why they stay float.
  std::vector<LinearGroup> groups(Sublayer& sublayer, StepContext& context) const {
    return groups(sublayer, context.skip, context.remarks);
  }
  // Gives those linears codes and scales without values, and returns them.
  std::vector<LinearGroup> plan(Sublayer& sublayer, PlanContext& context) const;
  // Sites whose linears may be rounded.
  std::vector<std::string> sites(Sublayer& sublayer) const;

 private:
  std::vector<LinearGroup> groups(Sublayer& sublayer, const std::function<bool(const std::string&)>& skip,
                                  Remarks& remarks) const;

  WeightScheme scheme_;
  double clip_ = 1;
  bool search_ = false;
  int64_t samples_;
};

// Codes and scales of a scheme in the shapes of a weight on the meta device, in place of its value.
void plan_codes(Weight& weight, const WeightScheme& scheme);

// Of choose_weight_clips() on a weight [out, in], `samples` rounded tokens included.
StepCost clip_search_cost(const Weight& weight, int64_t samples);

// The mean of x^T x over the samples of a site, x as the site rounds it. [channels, channels] float32
Tensor rounded_second_moment(const Site& site, const SiteStatistics& statistics);

}  // namespace ptq
