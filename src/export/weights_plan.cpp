#include "export/weights_plan.h"

#include <algorithm>
#include <numeric>

#include "export/rows.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr int64_t kSmallestGroup = 32;  // of servers' kernels

std::string last_part(const std::string& name) {
  return name.substr(name.find_last_of('.') + 1);
}

// Groups that fill a row of `in` columns exactly.
void fit_groups(WeightScheme& scheme, int64_t in, const std::string& name, const std::string& format) {
  if (scheme.group > in) {
    scheme.granularity = Granularity::kChannel;
    scheme.group = 0;
    return;
  }
  if (in % scheme.group == 0) return;
  const int64_t divisor = std::gcd(in, scheme.group);
  if (divisor < kSmallestGroup) {
    throw Error(name,
                std::to_string(in) + " columns do not divide into groups of " + std::to_string(scheme.group) +
                    ", which " + format + " needs",
                "another group when quantizing, or --skip for this layer");
  }
  scheme.group = divisor;
}

void expect_weights_only(Block& block, const std::string& format) {
  for (const Site* site : block.sites()) {
    if (!site->transform.empty()) {
      throw Error(site_text(block, *site),
                  "has an online transform (" + transform_text(site->transform) + "), which " + format +
                      " cannot hold",
                  "--method gptq or smoothquant, which need none");
    }
    if (site->quantizer.kind == ActivationQuantizer::Kind::kNone) continue;
    throw Error(site_text(block, *site), "rounds activations, and " + format + " holds weights alone",
                "--format compressed-tensors, or a run that rounds weights only, such as --bits w4a16");
  }
}

struct Planned {
  std::string linear;
  WeightScheme scheme;
  int64_t columns;
};

void expect_one_scheme(const std::vector<Planned>& all, const std::string& format) {
  for (const Planned& planned : all) {
    if (planned.scheme == all.front().scheme) continue;
    throw Error(planned.linear,
                "is stored otherwise than " + all.front().linear + ", and " + format +
                    " has one scheme for all layers",
                "--format compressed-tensors, or the same bits and groups for all layers");
  }
}

// Servers make one layer of those that read the same values.
void expect_sites_whole(Block& block, const std::map<std::string, bool>& linears) {
  std::map<std::string, const Linear*> first;  // by site
  for (const Linear* linear : block.linears()) {
    const auto [found, added] = first.emplace(linear->site, linear);
    if (added || linears.at(linear->name) == linears.at(found->second->name)) continue;
    throw Error(linear->name,
                "is stored otherwise than " + found->second->name + ", with which servers fuse it",
                "the same bits for both, or --skip both");
  }
}

}  // namespace

std::string site_text(const Block& block, const Site& site) {
  return block.prefix() + ".sites." + site.name;
}

std::vector<std::string> chosen_names(const std::map<std::string, bool>& chosen,
                                      const std::function<std::string(const std::string&)>& text) {
  std::map<std::string, bool> whole;  // last part -> whether all are chosen
  for (const auto& [name, is_chosen] : chosen) {
    const auto [part, added] = whole.emplace(last_part(name), true);
    part->second = part->second && is_chosen;
  }
  std::vector<std::string> names;
  for (const auto& [part, all] : whole) {
    if (all) names.push_back(text(part));
  }
  for (const auto& [name, is_chosen] : chosen) {
    if (is_chosen && !whole.at(last_part(name))) names.push_back(text(name));
  }
  return names;
}

void expect_adapter_holds(const Linear& linear) {
  if (!linear.correction || !linear.fused_elsewhere) return;
  throw Error(linear.name,
              "has a low-rank correction, and is a layer beside which peft puts no adapter, nor do codes "
              "take it in",
              "--format peft, which folds it into a float base");
}

WeightScheme integers_of(const Linear& linear, const std::string& format) {
  const WeightScheme& stored = linear.weight.quantized()->scheme;
  if (!stored.is_linear()) {
    throw Error(linear.name,
                std::string("is in ") + number_format_name(stored.format) + ", a table of values that " +
                    format + " does not have",
                "--format bitsandbytes, or a base of integers, such as int4-g64");
  }
  WeightScheme scheme;
  scheme.bits = stored.bits;
  scheme.symmetric = stored.symmetric;
  scheme.granularity = stored.granularity;
  scheme.group = stored.group;
  if (scheme.granularity == Granularity::kGroup)
    fit_groups(scheme, linear.weight.size(1), linear.name, format);
  return scheme;
}

void make_groups_alike(const std::vector<RowScheme>& schemes) {
  int64_t divisor = 0;
  for (const auto& [scheme, columns] : schemes)
    divisor = std::gcd(divisor, scheme->granularity == Granularity::kGroup ? scheme->group : columns);
  const auto grouped = [divisor](WeightScheme scheme) {
    scheme.granularity = Granularity::kGroup;
    scheme.group = divisor;
    return scheme;
  };
  const auto all = [&schemes](const auto& holds) {
    return std::all_of(schemes.begin(), schemes.end(),
                       [&](const RowScheme& row) { return holds(*row.scheme); });
  };
  if (divisor < kSmallestGroup) return;
  const WeightScheme first = *schemes.front().scheme;
  if (all([&](const WeightScheme& s) { return s == first; })) return;
  if (!all([&](const WeightScheme& s) { return grouped(s) == grouped(first); })) return;
  for (const RowScheme& row : schemes) *row.scheme = grouped(*row.scheme);
}

QuantizedTensor fitted(const QuantizedTensor& q, const WeightScheme& scheme) {
  QuantizedTensor result = q;
  result.scheme = scheme;
  const int64_t out = q.codes.size(0), in = q.codes.size(1);
  const std::vector<int64_t> shape = scheme.scale_shape(out, in);
  const bool in_groups = q.scheme.granularity == Granularity::kGroup;
  if (in_groups && scheme.granularity == Granularity::kGroup && q.scheme.group != scheme.group) {
    const auto spread = [&](const Tensor& t) {
      return t.repeat_interleave(q.scheme.group / scheme.group, 1).slice(1, 0, shape.at(1)).contiguous();
    };
    result.scale = spread(q.scale);
    if (q.zero.defined()) result.zero = spread(q.zero);
    return result;
  }
  result.scale = q.scale.expand(shape).contiguous();
  if (q.zero.defined()) result.zero = q.zero.expand(shape).contiguous();
  return result;
}

// What a scale of 0 stood for is 0 under any scale if the codes are.
void replace_zero_scales(QuantizedTensor& q) {
  const Tensor nothing = q.scale == 0;
  if (!nothing.any().item<bool>()) return;
  const int64_t group = q.codes.size(1) / q.scale.size(1);
  Tensor groups = q.codes.clone().unflatten(1, {-1, group});
  const Tensor zero = q.zero.defined() ? q.zero : at::zeros_like(q.scale, at::kChar);
  q.codes = at::where(nothing.unsqueeze(2), zero.unsqueeze(2), groups).flatten(1);
  q.scale = q.scale.masked_fill(nothing, 0x1p-14);  // the smallest normal float16
}

void expect_transforms_of_linears(Block& block, const std::string& what) {
  for (const Site* site : block.sites()) {
    if (site->transform.empty()) continue;
    const std::vector<Linear*> linears = block.linears();
    const bool read = std::any_of(linears.begin(), linears.end(),
                                  [site](const Linear* linear) { return linear->site == site->name; });
    if (read) continue;
    throw Error(
        site_text(block, *site),
        "has an online transform (" + transform_text(site->transform) + "), which " + what + " does not run",
        "--method gptq or smoothquant, which need none");
  }
}

void add_unrounded_sites(Block& block, std::map<std::string, int64_t>& sites) {
  for (const Site* site : block.sites()) {
    if (site->quantizer.kind != ActivationQuantizer::Kind::kNone) ++sites[site->name];
  }
}

std::vector<std::string> linears_outside(Model& model) {
  const auto without_end = [](const std::string& name) { return name.substr(0, name.rfind(".weight")); };
  std::vector<std::string> names;
  if (!model.tied_head().empty()) names.push_back(without_end(model.tied_head()));
  for (const Weight* weight : model.outer_weights()) {
    if (weight->role == Role::kHead || weight->role == Role::kLinear)
      names.push_back(without_end(weight->name));
  }
  // As transformers and servers call every head, whatever its tensors are called.
  constexpr const char* kHead = "lm_head";
  if (std::find(names.begin(), names.end(), kHead) == names.end()) names.emplace_back(kHead);
  return names;
}

std::string unrounded_text(const std::map<std::string, int64_t>& sites) {
  std::string text;
  for (const auto& [site, count] : sites)
    text += "  not rounded where this is loaded: " + site + " of " + count_text(count, "block") + "\n";
  return text;
}

std::vector<std::string> WeightsPlan::names(bool in_codes) const {
  std::map<std::string, bool> chosen;
  for (const auto& [name, is_in_codes] : linears) chosen[name] = is_in_codes == in_codes;
  return chosen_names(chosen, [](const std::string& name) { return name; });
}

WeightsPlan plan_weights(const OpenModel& artifact, const WeightsFormat& format) {
  const std::string path = artifact.checkpoint->path();
  if (!format.loads_ssm && artifact.architecture->is_among({"ssm"})) {
    throw Error(path, std::string("is a state-space model, of which nothing loads ") + format.name,
                "--format gguf or compressed-tensors");
  }
  WeightsPlan plan;
  std::vector<Planned> planned;
  for (int64_t i = 0; i < artifact.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = artifact.model->load_block(i);
    expect_weights_only(*block, format.name);
    for (const Linear* linear : block->linears()) {
      expect_adapter_holds(*linear);
      const bool in_codes = linear->weight.quantized() != nullptr && linear->min_bits <= kServedBits;
      plan.linears[linear->name] = in_codes;
      if (in_codes) planned.push_back({linear->name, format.scheme_of(*linear), linear->weight.size(1)});
    }
    expect_sites_whole(*block, plan.linears);
  }
  if (planned.empty())
    throw Error(path, std::string("has no layer in codes that ") + format.name + " holds",
                "a run that rounds weights");
  std::vector<RowScheme> rows;
  for (Planned& one : planned) rows.push_back({&one.scheme, one.columns});
  make_groups_alike(rows);
  expect_one_scheme(planned, format.name);
  plan.scheme = planned.front().scheme;
  plan.corrected = find_corrected(*artifact.model);
  return plan;
}

StoredForm stored_form(const OpenModel& artifact,
                       const std::function<void(const Linear&, StoredLinear&)>& fill) {
  StoredForm form;
  for (int64_t i = 0; i < artifact.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = artifact.model->load_block(i);
    for (const Linear* linear : block->linears()) {
      StoredLinear stored{linear->name, linear->weight.sizes().vec(), linear->token_share < 1};
      fill(*linear, stored);
      form.linears.push_back(std::move(stored));
    }
  }
  return form;
}

StoredForm stored_weights(const OpenModel& artifact, const WeightsFormat& format) {
  const WeightsPlan plan = plan_weights(artifact, format);
  return stored_form(artifact, [&plan](const Linear& linear, StoredLinear& stored) {
    if (plan.linears.at(linear.name)) stored.weights = plan.scheme;
  });
}

}  // namespace ptq
