#include "step/weight_rounding.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/solve/weight_clips.h"
#include "step/options.h"

namespace ptq {
namespace {

int64_t group_option(JsonFields& options, int64_t fallback) {
  const int64_t group = options.integer("group", fallback);
  if (group < 8 || group > 65536) {
    throw usage_error(options.path() + ".group",
                      std::to_string(group) + " weights a group; 8 to 65536 are supported");
  }
  return group;
}

int weight_bits(JsonFields& options, int fallback) {
  const int bits = bits_option(options, fallback, 2, 8);
  if (bits == 5 || bits == 7) {
    throw usage_error(options.path() + ".bits",
                      std::to_string(bits) + " bits; 2, 3, 4, 6 and 8 are supported");
  }
  return bits;
}

// MXINT and NF4 come in groups, and have scales of their own.
WeightScheme read_block_scheme(JsonFields& options, NumberFormat format) {
  const bool nf4 = format == NumberFormat::kNf4;
  WeightScheme scheme;
  scheme.format = format;
  scheme.bits = nf4 ? bits_option(options, 4, 4, 4) : weight_bits(options, 4);
  scheme.granularity = Granularity::kGroup;
  scheme.group = group_option(options, nf4 ? kNf4Group : kMxintGroup);
  return scheme;
}

WeightScheme read_scheme(JsonFields& options) {
  const auto format = choice(
      options, "format", NumberFormat::kInteger,
      {{"integer", NumberFormat::kInteger}, {"mxint", NumberFormat::kMxint}, {"nf4", NumberFormat::kNf4}});
  if (format != NumberFormat::kInteger) return read_block_scheme(options, format);
  WeightScheme scheme;
  scheme.bits = weight_bits(options, 8);
  scheme.symmetric = options.boolean("symmetric", true);
  scheme.granularity = choice(options, "granularity", Granularity::kChannel,
                              {{"tensor", Granularity::kTensor},
                               {"part", Granularity::kTensor},
                               {"channel", Granularity::kChannel},
                               {"group", Granularity::kGroup}});
  if (scheme.granularity == Granularity::kGroup) {
    scheme.group = group_option(options, 128);
    scheme.half_scales = true;
    scheme.plain_scales = choice(options, "scales", false, {{"centered", false}, {"plain", true}});
  }
  return scheme;
}

}  // namespace

WeightRounding::WeightRounding(JsonFields& options, bool rest)
    : scheme_(read_scheme(options)),
      selection_(options, "all"),
      rest_(rest),
      by_part_(options.has("granularity") && options.at("granularity") == "part"),
      samples_(samples_option(options, 4096)) {
  if (by_part_ && !scheme_.symmetric)
    throw usage_error(options.path() + ".symmetric", "scales of parts are symmetric");
  if (options.has("clip") && options.at("clip") == "search") {
    search_ = true;
    if (scheme_.granularity == Granularity::kTensor) {
      throw usage_error(options.path() + ".clip", "is searched for each channel or group, not for a tensor",
                        "granularity = \"channel\"");
    }
  } else {
    clip_ = options.number("clip", 1);
  }
  if (scheme_.format != NumberFormat::kInteger && (search_ || clip_ != 1)) {
    throw usage_error(options.path() + ".clip", "is for integer formats");
  }
  if (!(clip_ > 0 && clip_ <= 1)) {
    throw usage_error(options.path() + ".clip", std::to_string(clip_) + " is outside (0, 1]",
                      "a factor such as 0.8, or \"search\"");
  }
}

WeightScheme WeightRounding::scheme_for(const Linear& linear, Remarks& remarks) const {
  WeightScheme scheme = scheme_;
  if (half_scales_hold(linear.weight.values(), scheme)) return scheme;
  scheme.half_scales = false;
  remarks.fallbacks.push_back({linear.name, "scales of groups in float32", "float16 does not hold them"});
  return scheme;
}

Tensor WeightRounding::clips(const Tensor& W, const Tensor& M, const WeightScheme& scheme) const {
  return search_ ? choose_weight_clips(W, M, scheme) : fixed_clip(W);
}

Tensor WeightRounding::fixed_clip(const Tensor& W) const {
  return clip_ == 1 ? Tensor() : at::full({1}, clip_, W.options());
}

std::vector<std::string> WeightRounding::selected(Sublayer& sublayer) const {
  if (!selection_.is_everything()) return selection_.names(sublayer);
  std::vector<std::string> names;
  for (const Site* site : sublayer.sites()) names.push_back(site->name);
  return names;
}

std::string WeightRounding::reason_to_keep(const Linear& linear, const std::vector<std::string>& selected,
                                           const std::function<bool(const std::string&)>& skip) const {
  if (skip(linear.name)) return "skipped by the recipe";
  if (linear.min_bits == kNeverRounded) return "the architecture allows no rounding here";
  if (std::ranges::find(selected, linear.site) == selected.end()) return "not among the recipe's sites";
  if (linear.min_bits <= scheme_.bits) return "";
  return "the architecture allows no fewer than " + std::to_string(linear.min_bits) + " bits here";
}

std::vector<std::string> WeightRounding::sites(Sublayer& sublayer) const {
  std::vector<std::string> sites;
  for (const Linear* linear : linears(sublayer, [](const std::string&) { return false; })) {
    if (std::ranges::find(sites, linear->site) == sites.end()) sites.push_back(linear->site);
  }
  return sites;
}

std::vector<LinearGroup> WeightRounding::groups(Sublayer& sublayer, const std::vector<std::string>* among,
                                                const std::function<bool(const std::string&)>& skip,
                                                Remarks& remarks) const {
  const std::vector<std::string> selected = this->selected(sublayer);
  std::vector<LinearGroup> groups;
  for (Linear* linear : sublayer.linears()) {
    if (among != nullptr && std::ranges::find(*among, linear->site) == among->end()) continue;
    const std::string why = reason_to_keep(*linear, selected, skip);
    if (linear->weight.quantized() != nullptr) {
      if (!why.empty() || rest_) continue;
      throw usage_error(linear->name, "is rounded already by an earlier step",
                        "sites that the two do not share, or tensors = \"rest\"");
    }
    const auto said = std::ranges::find(remarks.decisions, linear->name, &Remark::where);
    const bool is_said = said != remarks.decisions.end();
    if (!why.empty()) {
      if (!is_said) remarks.decisions.push_back({linear->name, "kept in float", why});
      continue;
    }
    if (is_said && rest_) {
      said->what = "rounded to " + std::to_string(scheme_.bits) + " bits";
    } else if (is_said) {
      remarks.decisions.erase(said);
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

std::vector<Linear*> WeightRounding::linears(Sublayer& sublayer,
                                             const std::function<bool(const std::string&)>& skip) const {
  const std::vector<std::string> selected = this->selected(sublayer);
  std::vector<Linear*> all;
  for (Linear* linear : sublayer.linears()) {
    const bool is_float = linear->weight.quantized() == nullptr;
    if (is_float && reason_to_keep(*linear, selected, skip).empty()) all.push_back(linear);
  }
  return all;
}

std::vector<LinearGroup> WeightRounding::plan(Sublayer& sublayer, PlanContext& context) const {
  std::vector<LinearGroup> planned = groups(sublayer, nullptr, context.skip, context.remarks);
  for (const LinearGroup& group : planned) {
    for (Linear* linear : group.linears)
      plan_codes(linear->weight, by_part_ ? part_scheme(linear->weight, scheme_) : scheme_);
  }
  return planned;
}

WeightScheme part_scheme(const Weight& weight, WeightScheme scheme) {
  if (!weight.row_parts.empty()) scheme.granularity = Granularity::kChannel;
  return scheme;
}

QuantizedTensor round_parts(const Weight& weight, const WeightScheme& scheme) {
  const Tensor W = weight.values();
  if (scheme.granularity == Granularity::kTensor) return round_to_nearest(W, scheme);
  WeightScheme whole = scheme;
  whole.granularity = Granularity::kTensor;
  std::vector<Tensor> codes, scales;
  for (const Tensor& rows : W.split_with_sizes(weight.row_parts)) {
    const QuantizedTensor part = round_to_nearest(rows, whole);
    codes.push_back(part.codes);
    scales.push_back(part.scale.reshape({1}).expand({rows.size(0)}));
  }
  QuantizedTensor q;
  q.scheme = scheme;
  q.codes = at::cat(codes);
  q.scale = at::cat(scales).reshape(scheme.scale_shape(W.size(0), W.numel() / W.size(0)));
  return q;
}

void plan_codes(Weight& weight, const WeightScheme& scheme) {
  const int64_t out = weight.size(0), in = weight.numel() / std::max<int64_t>(1, out);
  const at::TensorOptions on_device = weight.device();
  QuantizedTensor q;
  q.scheme = scheme;
  q.codes = at::empty(weight.sizes(), on_device.dtype(at::kChar));
  q.scale = at::empty(scheme.scale_shape(out, in), on_device.dtype(at::kFloat));
  if (!scheme.symmetric) q.zero = at::empty(q.scale.sizes(), q.codes.options());
  weight.set(std::move(q));
}

Parcel parcel_of(const QuantizedTensor& q) {
  Parcel parcel;
  for (const Tensor& tensor : {q.codes, q.scale, q.zero}) parcel.add(tensor);
  return parcel;
}

QuantizedTensor quantized_of(ParcelReader& parcel, const WeightScheme& scheme, at::Device device) {
  const auto next = [&] {
    const Tensor tensor = parcel.tensor();
    return tensor.defined() ? tensor.to(device) : tensor;
  };
  QuantizedTensor q;
  q.codes = next();
  q.scale = next();
  q.zero = next();
  q.scheme = scheme;
  return q;
}

StepCost clip_search_cost(const Weight& weight, int64_t samples) {
  const int64_t out = weight.size(0), in = weight.size(1);
  const double moment = 2.0 * static_cast<double>(samples * in) * static_cast<double>(in);
  const double products = 9 * 2.0 * static_cast<double>(out * in) * static_cast<double>(in);
  // The moment and what it is made of; the error of W and three passing forms of it.
  return {moment + products, 4 * (in * in + 2 * samples * in + 4 * out * in)};
}

Tensor rounded_second_moment(const Site& site, const SiteStatistics& statistics) {
  return second_moment(site.quantizer(statistics.samples).dequantize());
}

}  // namespace ptq
