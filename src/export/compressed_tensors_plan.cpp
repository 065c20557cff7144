#include "export/compressed_tensors_plan.h"

#include <algorithm>
#include <variant>

#include "export/weights_plan.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

using Kind = ActivationQuantizer::Kind;

bool is_hadamard(const Transform& transform) {
  return std::all_of(transform.stages.begin(), transform.stages.end(), [](const TransformOp& stage) {
    return std::holds_alternative<Hadamard>(stage) || std::holds_alternative<Signs>(stage);
  });
}

std::optional<ActivationScheme> inputs_of(const Block& block, const Site& site, bool rotated) {
  const ActivationQuantizer& quantizer = site.quantizer;
  if (quantizer.kind == Kind::kNone) return {};
  if (quantizer.kind == Kind::kDynamic && quantizer.clip != 1) {
    throw Error(site_text(block, site),
                "clips each token to " + std::to_string(quantizer.clip) +
                    " of its range, which compressed-tensors does not hold",
                "activations without a clip");
  }
  if (rotated) return ActivationScheme{quantizer.bits, true, true, 0};
  return quantizer.scheme();
}

LinearScheme with_format(WeightScheme weights, const std::optional<ActivationScheme>& inputs,
                         const std::string& name) {
  LinearScheme scheme{weights, inputs, false};
  const bool eights =
      weights.bits == 8 && weights.granularity != Granularity::kGroup && inputs && inputs->bits == 8;
  if (eights && !weights.symmetric) {
    throw Error(name, "has zero points of weights beside 8-bit inputs, which no server loads",
                "symmetric weights when quantizing, such as --set gptq.symmetric=true");
  }
  scheme.packed = !eights;
  if (scheme.packed && weights.granularity == Granularity::kTensor)
    scheme.weights.granularity = Granularity::kChannel;
  return scheme;
}

LinearPlan plan_linear(Block& block, const Linear& linear) {
  const Site& site = block.site(linear.site);
  expect_adapter_holds(linear);
  const bool turned = !site.transform.empty();
  const QuantizedTensor* q = linear.weight.quantized();
  const int64_t columns = linear.weight.size(1);
  if (turned && (!is_hadamard(site.transform) || q == nullptr || q->scheme.bits < 8)) {
    throw Error(site_text(block, site),
                "has an online transform (" + transform_text(site.transform) +
                    "), which loaders of compressed-tensors do not run, and rounding " + linear.name +
                    " again without it would lose what it gained",
                "--method gptq or smoothquant, which need none");
  }
  if (q == nullptr || linear.min_bits > kServedBits) return {};
  if (!turned)
    return {with_format(integers_of(linear, kCompressedTensors), inputs_of(block, site, false), linear.name),
            false, columns};
  WeightScheme weights;
  weights.granularity = Granularity::kChannel;
  return {with_format(weights, inputs_of(block, site, true), linear.name), true, columns};
}

// Servers make one layer of those that read the same values.
void expect_one_scheme(const Linear& first, const LinearPlan& a, const Linear& second, const LinearPlan& b) {
  if (a.scheme == b.scheme) return;
  throw Error(second.name, "is stored otherwise than " + first.name + ", with which servers fuse it",
              "the same bits for both, or --skip both");
}

// What rounds in the artifact, and does not where this is loaded.
void add_unrounded(Block& block, CompressedTensorsPlan& plan) {
  for (const Site* site : block.sites()) {
    if (site->quantizer.kind == Kind::kNone) continue;
    const std::vector<Linear*> linears = block.linears();
    const bool kept = std::any_of(linears.begin(), linears.end(), [&](const Linear* linear) {
      const std::optional<LinearScheme>& scheme = plan.linears.at(linear->name).scheme;
      return linear->site == site->name && scheme && scheme->inputs;
    });
    if (!kept) ++plan.unrounded_sites[site->name];
  }
}

void plan_block(Block& block, CompressedTensorsPlan& plan) {
  std::map<std::string, const Linear*> first;  // by site
  for (const Linear* linear : block.linears()) {
    const LinearPlan& planned = plan.linears[linear->name] = plan_linear(block, *linear);
    const auto [found, added] = first.emplace(linear->site, linear);
    if (!added) expect_one_scheme(*found->second, plan.linears.at(found->second->name), *linear, planned);
  }
  expect_transforms_of_linears(block, "what loads compressed-tensors");
  add_unrounded(block, plan);
}

// transformers 5.24 dequantizes every layer by the first config group. Layers that differ in their groups
// alone get groups of the common divisor, with repeated scales.
void make_packed_groups_alike(std::map<std::string, LinearPlan>& linears) {
  std::vector<RowScheme> packed;
  std::vector<LinearScheme*> schemes;
  for (auto& [name, plan] : linears) {
    if (!plan.scheme || !plan.scheme->packed) continue;
    schemes.push_back(&*plan.scheme);
    packed.push_back({&plan.scheme->weights, plan.columns});
  }
  const bool same_inputs = std::all_of(schemes.begin(), schemes.end(), [&](const LinearScheme* scheme) {
    return scheme->inputs == schemes.front()->inputs;
  });
  if (same_inputs) make_groups_alike(packed);
}

// "re:" and an expression that what ends with `name` matches, without what a full name begins with.
std::string expression_of(const std::string& name) {
  const bool is_full = name.find('.') != std::string::npos;
  std::string escaped;
  for (const char c : is_full ? name.substr(name.find('.') + 1) : name)
    escaped += c == '.' ? std::string("\\.") : std::string(1, c);
  return "re:.*\\." + escaped + "$";
}

// The linears for which `chosen` holds.
template <typename Chosen>
std::vector<std::string> names_of(const std::map<std::string, LinearPlan>& linears, const Chosen& chosen) {
  std::map<std::string, bool> is_chosen;
  for (const auto& [name, plan] : linears) is_chosen[name] = chosen(plan);
  return chosen_names(is_chosen, expression_of);
}

}  // namespace

std::vector<LinearScheme> CompressedTensorsPlan::schemes() const {
  std::vector<LinearScheme> schemes;
  for (const auto& [name, plan] : linears) {
    if (plan.scheme && std::find(schemes.begin(), schemes.end(), *plan.scheme) == schemes.end())
      schemes.push_back(*plan.scheme);
  }
  return schemes;
}

Json CompressedTensorsPlan::quantization_config() const {
  const std::vector<LinearScheme> schemes = this->schemes();
  std::vector<std::string> ignore = outside;
  for (const std::string& name : names_of(linears, [](const LinearPlan& plan) { return !plan.scheme; }))
    ignore.push_back(name);
  Json groups = Json::object();
  bool one_format = true;
  for (size_t i = 0; i < schemes.size(); ++i) {
    const auto in_group = [&](const LinearPlan& plan) { return plan.scheme == schemes[i]; };
    groups["group_" + std::to_string(i)] = group_json(
        schemes[i], schemes.size() == 1 ? std::vector<std::string>{"Linear"} : names_of(linears, in_group));
    one_format = one_format && schemes[i].packed == schemes[0].packed;
  }
  Json config = {{"quant_method", kCompressedTensors},
                 {"format", one_format ? schemes.at(0).format() : "mixed-precision"},
                 {"quantization_status", "compressed"},
                 {"ignore", ignore},
                 {"config_groups", groups},
                 {"kv_cache_scheme", nullptr}};
  if (dequantize) config["dequantize"] = true;
  return config;
}

CompressedTensorsPlan plan_compressed_tensors(const OpenModel& artifact) {
  CompressedTensorsPlan plan;
  plan.outside = linears_outside(*artifact.model);
  for (int64_t i = 0; i < artifact.model->num_blocks(); ++i) plan_block(*artifact.model->load_block(i), plan);
  // transformers 5.24 loads neither a packed Mamba nor packed zero points in codes, and peft finds no weights
  // in packed layers.
  const bool is_ssm = artifact.architecture->is_among({"ssm"});
  plan.corrected = find_corrected(*artifact.model);
  const bool beside_adapter = !plan.corrected.beside.empty();
  for (const auto& [name, linear] : plan.linears) {
    if (!linear.scheme || !linear.scheme->packed) continue;
    plan.dequantize = plan.dequantize || is_ssm || beside_adapter || !linear.scheme->weights.symmetric;
  }
  if (plan.dequantize) make_packed_groups_alike(plan.linears);
  if (!plan.schemes().empty()) return plan;
  throw Error(artifact.checkpoint->path(), "has no layer in codes that compressed-tensors holds",
              "a run that rounds weights");
}

}  // namespace ptq
