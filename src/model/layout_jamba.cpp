// Jamba (arXiv 2403.19887): Mamba-1 mixers and attention without positions, dense feed-forwards and mixtures.
#include "model/decoder_reader.h"
#include "model/layouts.h"
#include "model/mamba_words.h"
#include "model/moe_reader.h"

namespace ptq {
namespace {

// The sizes of the mixer below `prefix`.
Mamba1Layout read_mixer(DecoderReader& reader, const std::string& prefix) {
  JsonFields& fields = reader.fields;
  Mamba1Layout mixer = read_mamba1_sizes(reader.source(), prefix, reader.hidden);
  mixer.linear_bias = reader.bias("mamba_proj_bias", false, prefix + ".in_proj.bias");
  mixer.conv_bias = reader.bias("mamba_conv_bias", true, prefix + ".conv1d.bias");
  mixer.norms = Mamba1Layout::Norms{.eps = reader.norm_eps, .gains = true};
  expect_equal(fields, {"mamba_d_state"}, mixer.d_state);
  expect_equal(fields, {"mamba_d_conv"}, mixer.d_conv);
  expect_equal(fields, {"mamba_dt_rank"}, mixer.dt_rank);
  if (fields.has("mamba_expand")) expect_equal(fields, {"mamba_expand"}, mixer.d_inner / reader.hidden);
  return mixer;
}

// "Every `period` layers one, from `offset` on."
struct Every {
  int64_t period, offset;

  Every(LayoutReader& reader, const char* period_key, int64_t default_period, const char* offset_key,
        int64_t default_offset)
      : period(reader.count(period_key, default_period)),
        offset(reader.fields.integer(offset_key, default_offset)) {}
  bool operator()(int64_t layer) const { return layer % period == offset; }
};

}  // namespace

ModelLayout jamba_layout(const WeightSource& source) {
  DecoderReader reader(source, "Jamba", 1e-6, 262144, /*tied=*/false, "model.final_layernorm");
  const Every attends(reader, "attn_layer_period", 8, "attn_layer_offset", 4);
  const Every is_sparse(reader, "expert_layer_period", 2, "expert_layer_offset", 1);
  const bool has_experts = reader.fields.integer("num_experts", 16) > 1;
  const int64_t chosen = reader.count("num_experts_per_tok", 2);
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i), dense = name + ".feed_forward";
    PartLayout mixer;
    if (attends(i))
      mixer = reader.attention(name + ".self_attn", /*biases=*/false, /*rotates=*/false);
    else
      mixer = read_mixer(reader, name + ".mamba");
    PartLayout feed_forward;
    if (has_experts && is_sparse(i))
      feed_forward = read_moe(reader, dense, dense + ".router", {}, chosen, "intermediate_size");
    else
      feed_forward = reader.feed_forward(dense);
    reader.model.blocks.push_back({name,
                                   {pre_normed(reader.norm(name + ".input_layernorm"), mixer),
                                    pre_normed(reader.norm(name + ".pre_ff_layernorm"), feed_forward)}});
  }
  return reader.finish({"router_aux_loss_coef", "output_router_logits", "num_logits_to_keep",
                        "use_mamba_kernels", "use_mambapy", "use_associative_scan",
                        "mamba_inner_layernorms"});
}

}  // namespace ptq
