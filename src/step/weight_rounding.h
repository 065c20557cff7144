// What the steps that round weights share: their options, and the walk over a sublayer's linears.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ptq/codec/quantized_tensor.h"
#include "ptq/step/step.h"
#include "step/site_selection.h"

namespace ptq {

// Linears that read one site, to be rounded with one second moment.
struct LinearGroup {
  std::string site;
  std::vector<Linear*> linears;
};

class WeightRounding {
 public:
  // format ("integer", "mxint", "nf4"), bits, granularity (see by_part(), too), group, symmetric, scales
  // ("centered", "plain": see WeightScheme), clip (a factor, or "search"), samples, sites (those whose
  // readers are rounded; all). `rest`: of those, the linears that earlier steps have left in float.
  explicit WeightRounding(JsonFields& options, bool rest = false);

  const WeightScheme& scheme() const { return scheme_; }
  // granularity "part": a scale for each kind of rows. They are stored as scales a row; a weight whose rows
  // are of one kind has one for the tensor.
  bool by_part() const { return by_part_; }
  bool searches_clips() const { return search_; }
  // Tokens from which the second moment of rounded activations is made.
  int64_t samples() const { return samples_; }
  // scheme(), with float32 scales where float16 does not hold those of the weight: a fallback says so.
  WeightScheme scheme_for(const Linear& linear, Remarks& remarks) const;
  // The clip of each scale of W: searched under M, or the fixed one.
  Tensor clips(const Tensor& W, const Tensor& M, const WeightScheme& scheme) const;
  // [1], undefined if it is 1.
  Tensor fixed_clip(const Tensor& W) const;

  // Throws a usage Error for a site that no sublayer of a model has.
  void check(const std::vector<Sublayer*>& sublayers) const { selection_.check(sublayers); }
  // The linears to round, by site, in forward order; for the others a decision says why they stay float,
  // which a later step that does round them takes back. Throws a usage Error if one is rounded already.
  std::vector<LinearGroup> groups(Sublayer& sublayer, StepContext& context) const {
    return groups(sublayer, context.sites, context.skip, context.remarks);
  }
  // The same linears, of all sites, in forward order.
  std::vector<Linear*> linears(Sublayer& sublayer, const std::function<bool(const std::string&)>& skip) const;
  // Gives those linears codes and scales without values, and returns them.
  std::vector<LinearGroup> plan(Sublayer& sublayer, PlanContext& context) const;
  // Sites whose linears may be rounded.
  std::vector<std::string> sites(Sublayer& sublayer) const;

 private:
  // `among`: the sites looked at; null: all.
  std::vector<LinearGroup> groups(Sublayer& sublayer, const std::vector<std::string>* among,
                                  const std::function<bool(const std::string&)>& skip,
                                  Remarks& remarks) const;

  // Why the linear stays float; empty if it is to be rounded.
  std::string reason_to_keep(const Linear& linear, const std::vector<std::string>& selected,
                             const std::function<bool(const std::string&)>& skip) const;
  // The sites whose readers are rounded. A router's is among them if all are.
  std::vector<std::string> selected(Sublayer& sublayer) const;

  WeightScheme scheme_;
  SiteSelection selection_;
  bool rest_;
  bool by_part_ = false;
  double clip_ = 1;
  bool search_ = false;
  int64_t samples_;
};

// The scheme for a weight that is rounded part by part, of one that has a scale for the tensor.
WeightScheme part_scheme(const Weight& weight, WeightScheme scheme);

// Each kind of the weight's rows rounded to nearest with one scale. REQUIRES: `scheme` is
// part_scheme(weight, ...) of a symmetric one.
QuantizedTensor round_parts(const Weight& weight, const WeightScheme& scheme);

// Codes and scales of a scheme in the shapes of a weight on the meta device, in place of its value.
void plan_codes(Weight& weight, const WeightScheme& scheme);

// Codes, scales and zero points of a weight for other processes, which know the scheme.
Parcel parcel_of(const QuantizedTensor& q);
QuantizedTensor quantized_of(ParcelReader& parcel, const WeightScheme& scheme, at::Device device);

// Of choose_weight_clips() on a weight [out, in], `samples` rounded tokens included.
StepCost clip_search_cost(const Weight& weight, int64_t samples);

// The mean of x^T x over the samples of a site, x as the site rounds it. [channels, channels] float32
Tensor rounded_second_moment(const Site& site, const SiteStatistics& statistics);

}  // namespace ptq
