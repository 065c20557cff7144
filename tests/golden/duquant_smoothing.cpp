// Cases of sort d2: the smoothing of one layer with grouped-query attention, by the program's own step on a
// Llama block.
#include "duquant_model.h"
#include "ptq/step/rewrites.h"

namespace ptq::golden {
namespace {

constexpr double kTolerance = 1e-6;  // of each value, as the case states it

constexpr const char* kLayer = "model.layers.0.";

// A weight as the case calls it, and its name in the layer.
constexpr std::pair<const char*, const char*> kWeights[] = {
    {"input_layernorm", "input_layernorm.weight"},
    {"post_attention_layernorm", "post_attention_layernorm.weight"},
    {"q", "self_attn.q_proj.weight"},
    {"k", "self_attn.k_proj.weight"},
    {"v", "self_attn.v_proj.weight"},
    {"o", "self_attn.o_proj.weight"},
    {"gate", "mlp.gate_proj.weight"},
    {"up", "mlp.up_proj.weight"},
    {"down", "mlp.down_proj.weight"},
};

// The case's layer in a model; its embedding and head are there only because a model has them.
MemorySource source_of(const CaseTensors& tensors, const Json& dims) {
  const auto hidden = dims.at("hidden").get<int64_t>();
  constexpr int64_t kVocabulary = 2;
  std::map<std::string, Tensor> named = {{"model.embed_tokens.weight", at::zeros({kVocabulary, hidden})},
                                         {"model.norm.weight", at::ones({hidden})}};
  for (const auto& [theirs, ours] : kWeights)
    named[std::string(kLayer) + ours] = tensors[std::string("in.") + theirs];
  const Json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"hidden_size", hidden},
                       {"intermediate_size", dims.at("intermediate")},
                       {"num_attention_heads", dims.at("heads")},
                       {"num_key_value_heads", dims.at("kv_heads")},
                       {"head_dim", dims.at("head_dim")},
                       {"num_hidden_layers", 1},
                       {"vocab_size", kVocabulary},
                       {"rms_norm_eps", 1e-5},
                       {"rope_theta", 10000.0},
                       {"max_position_embeddings", 64},
                       {"tie_word_embeddings", true}};
  return {std::move(named), config};
}

Statistics maxima_of(const CaseTensors& tensors) {
  Statistics statistics;
  for (const SiteName& site : kLinearSites)
    statistics[site.ours].channel_abs_max = tensors[std::string("in.absmax.") + site.theirs];
  return statistics;
}

// What the scales of a site are before heads share them.
void compare_unshared(Block& block, const CaseTensors& tensors, const std::string& prefix, double alpha,
                      Checks& checks) {
  for (const FoldEdge& edge : block.fold_edges()) {
    for (const SiteName& site : kLinearSites) {
      const std::string name = prefix + "scale." + site.theirs + "_before_sharing";
      if (edge.sites.front() != site.ours || !tensors.has(name)) continue;
      const Tensor columns = edge.readers.front()->weight.values().abs().amax(0);
      const Tensor maxima = tensors[std::string("in.absmax.") + site.theirs];
      each_near(checks, name, smoothing_scales(maxima, columns, alpha, 1e-2), tensors[name], kTolerance);
    }
  }
}

void run_alpha(const Model& model, const CaseTensors& tensors, const std::string& prefix, double alpha,
               Checks& checks) {
  const std::unique_ptr<Block> block = model.load_block(0);
  const Tensor hidden = at::arange(5 * model.hidden_size(), at::kFloat).sin().reshape({1, 5, -1});
  const Tensor before = block->forward(hidden);
  compare_unshared(*block, tensors, prefix, alpha, checks);
  Statistics statistics = maxima_of(tensors);
  apply_step("smooth", smooth_options(alpha), *block, statistics);
  for (const SiteName& site : kLinearSites) {
    const std::string name = prefix + "scale." + site.theirs;
    each_near(checks, name, block->site(site.ours).smooth, tensors[name], kTolerance);
  }
  size_t compared = 0;
  for (const Weight* weight : block->weights()) {
    for (const auto& [theirs, ours] : kWeights) {
      if (weight->name != std::string(kLayer) + ours) continue;
      const std::string name = prefix + "out." + theirs;
      each_near(checks, name, weight->values(), tensors[name], kTolerance);
      ++compared;
    }
  }
  checks.expect(compared == std::size(kWeights), prefix + std::to_string(compared) + " weights compared");
  // The statistics of the case need not be those of the layer: any scales leave its output as it was.
  checks.near(prefix + "output of the layer", block->forward(hidden), before, 1e-5);
}

}  // namespace

void run_smoothing_case(const std::filesystem::path& json_path, Checks& checks) {
  const Json json = read_json_file(json_path.string());
  const CaseTensors tensors(json_path);
  const MemorySource source = source_of(tensors, json.at("dims"));
  const std::unique_ptr<Model> model = find_architecture(source, json_path.string()).make(source);
  for (const Json& entry : json.at("cases")) {
    run_alpha(*model, tensors, entry.at("prefix").get<std::string>(), entry.at("alpha").get<double>(),
              checks);
  }
}

}  // namespace ptq::golden
