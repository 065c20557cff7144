// Members of Llama's kin that differ from it in one respect each: Granite 3 has four multipliers
// (transformers' GraniteForCausalLM), OLMo 2 (arXiv 2501.00656) norms after the parts instead of before,
// Phi-3 (arXiv 2404.14219) joined linears and LongRoPE.
#include "model/decoder_reader.h"
#include "model/layouts.h"

namespace ptq {
namespace {

// A block of both; `make(norm's name, part)` gives each its sublayer.
template <typename Make>
void add_blocks(DecoderReader& reader, AttentionLayout attention, DenseLayout dense, const char* first,
                const char* second, const Make& make) {
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    attention.prefix = name + ".self_attn";
    dense.prefix = name + ".mlp";
    reader.model.blocks.push_back({name, {make(name + first, attention), make(name + second, dense)}});
  }
}

}  // namespace

ModelLayout granite_layout(const WeightSource& source) {
  DecoderReader reader(source, "Granite", 1e-6, 2048);
  AttentionLayout attention = reader.attention();
  attention.scale = reader.positive("attention_multiplier", 1);
  const double residual = reader.positive("residual_multiplier", 1);
  reader.model.embedding_scale = reader.positive("embedding_multiplier", 1);
  reader.model.logits_scale = 1 / reader.positive("logits_scaling", 1);
  add_blocks(reader, attention, reader.feed_forward(), ".input_layernorm", ".post_attention_layernorm",
             [&](const std::string& norm, const PartLayout& part) {
               SublayerLayout sublayer = pre_normed(reader.norm(norm), part);
               sublayer.residual_scale = residual;
               return sublayer;
             });
  return reader.finish();
}

ModelLayout olmo2_layout(const WeightSource& source) {
  DecoderReader reader(source, "OLMo 2", 1e-5, 2048);
  AttentionLayout attention = reader.attention();
  attention.qk_norm = QkNormLayout{.over = QkNormLayout::Over::kProjection, .eps = reader.norm_eps};
  add_blocks(reader, attention, reader.feed_forward(), ".post_attention_layernorm",
             ".post_feedforward_layernorm", [&](const std::string& norm, const PartLayout& part) {
               SublayerLayout sublayer;
               sublayer.branches = {{part, /*norm=*/-1}};
               sublayer.post = reader.norm(norm);
               return sublayer;
             });
  return reader.finish();
}

ModelLayout phi3_layout(const WeightSource& source) {
  DecoderReader reader(source, "Phi-3", 1e-5, 4096);
  const std::string first = reader.layer(0);
  const Heads heads =
      read_joined_heads(reader.fields, reader.hidden, reader.rows(first + ".self_attn.qkv_proj.weight"));
  const int64_t d_inner = reader.rows(first + ".mlp.gate_up_proj.weight") / 2;
  expect_equal(reader.fields, {"intermediate_size"}, d_inner);
  AttentionLayout attention{.d_model = reader.hidden,
                            .heads = heads.queries,
                            .kv_heads = heads.keys,
                            .head_dim = heads.channels,
                            .window = reader.count("sliding_window", 0),
                            .rope = reader.rope(heads.channels, 1),
                            .rows = QkvRows::kJoined};
  const DenseLayout dense{.d_model = reader.hidden,
                          .d_inner = d_inner,
                          .form = DenseLayout::Form::kJoined,
                          .f = reader.f,
                          .up = "gate_up_proj"};
  add_blocks(
      reader, attention, dense, ".input_layernorm", ".post_attention_layernorm",
      [&](const std::string& norm, const PartLayout& part) { return pre_normed(reader.norm(norm), part); });
  return reader.finish();
}

}  // namespace ptq
