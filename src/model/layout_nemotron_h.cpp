// Nemotron-H (arXiv 2504.03624): blocks of one part each, a Mamba-2 mixer, attention without positions, a
// feed-forward or a mixture of experts.
#include "model/layout_reader.h"
#include "model/layouts.h"
#include "model/mamba2_sizes.h"
#include "model/moe_reader.h"
#include "model/nonlinearity.h"

namespace ptq {
namespace {

const char* const kMamba = "linear_attention";
const char* const kAttention = "full_attention";
const char* const kDense = "mlp";
const char* const kMoe = "moe";

struct NemotronReader : LayoutReader {
  explicit NemotronReader(const WeightSource& source)
      : LayoutReader(source, "Nemotron-H", "backbone.embeddings.weight", "backbone.layers.", /*tied=*/false),
        norm_eps(eps("layer_norm_epsilon", eps("rms_norm_eps", eps("norm_eps", 1e-5)))),
        f(read_nonlinearity(fields, "mlp_hidden_act", "relu2")) {}

  PartLayout part(const std::string& type, const std::string& prefix);
  Mamba2Layout mixer(const std::string& prefix);
  AttentionLayout attention(const std::string& prefix);
  DenseLayout dense(const std::string& prefix);
  MoeLayout moe(const std::string& prefix);

  double norm_eps;
  Nonlinearity f;
};

Mamba2Layout NemotronReader::mixer(const std::string& prefix) {
  static const Mamba2Words words{.heads = {"mamba_num_heads"},
                                 .head_dim = {"mamba_head_dim"},
                                 .state = {"ssm_state_size", "mamba_state_dim"},
                                 .groups = {"n_groups", "mamba_n_groups", "mamba_num_groups"},
                                 .conv = {"conv_kernel", "mamba_d_conv"},
                                 .default_state = 128,
                                 .default_groups = 8,
                                 .in_bias = "use_bias",
                                 .out_bias = "use_bias",
                                 .conv_bias = "use_conv_bias",
                                 .limits = "time_step_limit"};
  Mamba2Layout mixer = read_mamba2_sizes(source(), prefix, hidden, fields, words);
  if (const std::string act = fields.string("mamba_hidden_act", "silu"); act != "silu" && act != "swish")
    throw Error("config.json: mamba_hidden_act", Json(act).dump() + " is not supported; mixers use silu");
  mixer.norm = {norm_eps, mixer.groups};
  return mixer;
}

AttentionLayout NemotronReader::attention(const std::string& prefix) {
  const Heads heads =
      read_heads(fields, hidden, rows(prefix + ".q_proj.weight"), rows(prefix + ".k_proj.weight"));
  expect_equal(fields, {"attention_head_dim"}, heads.channels);
  return {.prefix = prefix,
          .d_model = hidden,
          .heads = heads.queries,
          .kv_heads = heads.keys,
          .head_dim = heads.channels,
          .window = count("sliding_window", 0)};
}

// At the same names, whatever its width.
DenseLayout NemotronReader::dense(const std::string& prefix) {
  return {.prefix = prefix,
          .d_model = hidden,
          .d_inner = rows(prefix + ".up_proj.weight"),
          .bias = bias("mlp_bias", false, prefix + ".up_proj.bias"),
          .form = DenseLayout::Form::kPlain,
          .f = f};
}

MoeLayout NemotronReader::moe(const std::string& prefix) {
  const int64_t chosen = count("num_experts_per_tok", 2);
  MoeLayout moe{.prefix = prefix, .d_model = hidden, .router = {.name = prefix + ".gate", .chosen = chosen}};
  moe.router.score = RouterLayout::Score::kSigmoid;
  moe.router.normed = fields.boolean("norm_topk_prob", true);
  moe.router.scale = positive("routed_scaling_factor", 1);
  moe.router.choice_bias = moe.router.name + ".e_score_correction_bias";
  moe.router.groups = count("n_group", 1);
  moe.router.chosen_groups = count("topk_group", 1);
  const int64_t experts = read_expert_count(*this, moe.router.name, chosen);
  const int64_t in_group = experts / moe.router.groups;
  if (experts % moe.router.groups != 0 || moe.router.chosen_groups > moe.router.groups ||
      (moe.router.groups > 1 && in_group < 2) || chosen > in_group * moe.router.chosen_groups) {
    throw Error("config.json: n_group",
                std::to_string(experts) + " experts in " + std::to_string(moe.router.groups) + " groups, " +
                    std::to_string(moe.router.chosen_groups) + " of them looked at for " +
                    std::to_string(chosen) + " experts, cannot be");
  }
  for (int64_t e = 0; e < experts; ++e) {
    const std::string expert = prefix + ".experts." + std::to_string(e);
    moe.experts.push_back(dense(expert));
    // transformers gives experts no biases, whatever mlp_bias says; NVIDIA's own code does.
    moe.experts.back().bias = stores(expert + ".up_proj.bias");
  }
  expect_equal(fields, {"moe_intermediate_size"}, moe.experts.front().d_inner);
  if (!fields.has("moe_latent_size")) return moe;
  moe.latent_in = prefix + ".fc1_latent_proj";
  moe.latent_out = prefix + ".fc2_latent_proj";
  const int64_t width = rows(moe.latent_in + ".weight");
  expect_equal(fields, {"moe_latent_size"}, width);
  for (DenseLayout& expert : moe.experts) expert.d_model = width;
  return moe;
}

PartLayout NemotronReader::part(const std::string& type, const std::string& prefix) {
  if (type == kMamba) return mixer(prefix);
  if (type == kAttention) return attention(prefix);
  if (type == kMoe) return moe(prefix);
  DenseLayout layout = dense(prefix);
  expect_equal(fields, {"intermediate_size"}, layout.d_inner);
  return layout;
}

// "M-*E": a letter a layer.
std::vector<std::string> types_of_pattern(LayoutReader& reader) {
  const char* const key = "hybrid_override_pattern";
  const std::string pattern = reader.fields.at(key).is_string() ? reader.fields.string(key, "") : "";
  if (static_cast<int64_t>(pattern.size()) != reader.num_layers)
    throw Error(config_place(reader.fields, key), "has " + std::to_string(pattern.size()) +
                                                      " letters, and the checkpoint " +
                                                      std::to_string(reader.num_layers) + " layers");
  std::vector<std::string> types;
  for (const char letter : pattern) {
    if (letter != 'M' && letter != '*' && letter != '-' && letter != 'E')
      throw Error(config_place(reader.fields, key),
                  "has the letter \"" + std::string(1, letter) + "\"; M, *, - and E are known");
    types.emplace_back(letter == 'M' ? kMamba : letter == '*' ? kAttention : letter == '-' ? kDense : kMoe);
  }
  return types;
}

}  // namespace

ModelLayout nemotron_h_layout(const WeightSource& source) {
  NemotronReader reader(source);
  JsonFields& fields = reader.fields;
  expect_equal(fields, {"hidden_size"}, reader.hidden);
  reader.model.final_norm = NormLayout{"backbone.norm_f.weight", reader.norm_eps};
  reader.model.context_limit = reader.count("max_position_embeddings", 4096);
  std::vector<std::string> types =
      reader.layer_types("layers_block_type", {kMamba, kAttention, kDense, kMoe});
  if (types.empty())
    types = types_of_pattern(reader);
  else
    fields.has("hybrid_override_pattern");
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string mixer = reader.layer(i) + ".mixer", &type = types[static_cast<size_t>(i)];
    SublayerLayout sublayer =
        pre_normed({reader.layer(i) + ".norm.weight", reader.norm_eps}, reader.part(type, mixer));
    if (type == kMoe && fields.integer("n_shared_experts", 1) > 0) {
      sublayer.branches.push_back({reader.dense(mixer + ".shared_experts")});
      const auto& shared = std::get<DenseLayout>(sublayer.branches.back().part);
      expect_equal(fields, {"moe_shared_expert_intermediate_size"}, shared.d_inner);
    }
    reader.model.blocks.push_back({mixer, {sublayer}});
  }
  // Of parts that this model may not have.
  for (const char* key : {"intermediate_size", "moe_intermediate_size", "moe_shared_expert_intermediate_size",
                          "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group",
                          "topk_group", "norm_topk_prob", "routed_scaling_factor", "mlp_bias", "head_dim",
                          "num_attention_heads", "num_key_value_heads"})
    fields.has(key);
  // transformers reads neither: attention has no biases, and mixers those of use_bias.
  return reader.finish({"attention_bias", "mamba_proj_bias", "chunk_size", "expand", "residual_in_fp32",
                        "rescale_prenorm_residual", "time_step_floor", "time_step_min", "time_step_max",
                        "use_mamba_kernels", "mamba_ssm_cache_dtype", "num_logits_to_keep", "mtp_*",
                        "num_nextn_predict_layers", "moe_shared_expert_overlap", "output_router_logits"});
}

}  // namespace ptq
