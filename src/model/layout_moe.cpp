// Llama's kin with mixtures of experts: Mixtral (arXiv 2401.04088), Qwen2-MoE, Qwen3-MoE (arXiv 2505.09388)
// and OLMoE (arXiv 2409.02060).
#include <algorithm>

#include "model/decoder_reader.h"
#include "model/layouts.h"
#include "model/llama_windows.h"
#include "model/moe_reader.h"

namespace ptq {
namespace {

// The blocks of a decoder with experts: `sparse` says which layers have them, `feed_forward(layer)` gives
// their sublayer.
template <typename Sparse, typename FeedForward>
void add_blocks(DecoderReader& reader, AttentionLayout attention, const std::vector<int64_t>& windows,
                const Sparse& sparse, const FeedForward& feed_forward) {
  for (int64_t i = 0; i < reader.num_layers; ++i) {
    const std::string name = reader.layer(i);
    attention.prefix = name + ".self_attn";
    attention.window = windows.empty() ? 0 : windows[static_cast<size_t>(i)];
    const NormLayout norm = reader.norm(name + ".post_attention_layernorm");
    const SublayerLayout second =
        sparse(i) ? feed_forward(name, norm) : pre_normed(norm, reader.feed_forward(name + ".mlp"));
    reader.model.blocks.push_back(
        {name, {pre_normed(reader.norm(name + ".input_layernorm"), attention), second}});
  }
}

// Qwen's rule: experts in every `decoder_sparse_step`th layer, and not in `mlp_only_layers`.
std::vector<bool> qwen_sparse_layers(DecoderReader& reader) {
  const int64_t step = reader.count("decoder_sparse_step", 1);
  std::vector<bool> sparse = reader.listed_layers("mlp_only_layers");
  for (int64_t i = 0; i < reader.num_layers; ++i)
    sparse[static_cast<size_t>(i)] = !sparse[static_cast<size_t>(i)] && (i + 1) % step == 0;
  return sparse;
}

std::vector<int64_t> qwen_windows(DecoderReader& reader, const char* name) {
  for (const char* key : {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"})
    reader.fields.has(key);
  return read_windows(reader.source().config(), Windows::kByLayer, name, reader.num_layers,
                      reader.model.warnings);
}

}  // namespace

ModelLayout mixtral_layout(const WeightSource& source) {
  DecoderReader reader(source, "Mixtral", 1e-5, 131072);
  const AttentionLayout attention = reader.attention(reader.layer(0) + ".self_attn", /*biases=*/false);
  const std::vector<int64_t> windows(static_cast<size_t>(reader.num_layers),
                                     reader.count("sliding_window", 0));
  const int64_t chosen = reader.count("num_experts_per_tok", 2);
  add_blocks(
      reader, attention, windows, [](int64_t) { return true; },
      [&](const std::string& layer, const NormLayout& norm) {
        const std::string prefix = layer + ".block_sparse_moe";
        MoeLayout moe =
            read_moe(reader, prefix, prefix + ".gate", {"w1", "w3", "w2"}, chosen, "intermediate_size");
        moe.router.normed = true;
        return pre_normed(norm, moe);
      });
  return reader.finish({"router_aux_loss_coef", "router_jitter_noise", "output_router_logits"});
}

ModelLayout qwen2_moe_layout(const WeightSource& source) {
  DecoderReader reader(source, "Qwen2-MoE", 1e-6, 32768);
  const std::string first = reader.layer(0) + ".self_attn";
  AttentionLayout attention = reader.attention(first, /*biases=*/false);
  attention.qkv_bias = reader.bias("qkv_bias", true, first + ".q_proj.bias");
  const bool normed = reader.fields.boolean("norm_topk_prob", false);
  const int64_t chosen = reader.count("num_experts_per_tok", 4);
  const std::vector<bool> sparse = qwen_sparse_layers(reader);
  add_blocks(
      reader, attention, qwen_windows(reader, "Qwen2-MoE"),
      [&](int64_t i) { return sparse[static_cast<size_t>(i)]; },
      [&](const std::string& layer, const NormLayout& norm) {
        const std::string prefix = layer + ".mlp";
        MoeLayout moe = read_moe(reader, prefix, prefix + ".gate", {}, chosen, "moe_intermediate_size");
        moe.router.normed = normed;
        DenseLayout shared =
            reader.feed_forward(prefix + ".shared_expert", "shared_expert_intermediate_size");
        shared.output_gate = prefix + ".shared_expert_gate";
        SublayerLayout sublayer = pre_normed(norm, moe);
        sublayer.branches.push_back({shared});
        return sublayer;
      });
  return reader.finish({"router_aux_loss_coef", "output_router_logits"});
}

ModelLayout qwen3_moe_layout(const WeightSource& source) {
  DecoderReader reader(source, "Qwen3-MoE", 1e-6, 32768);
  AttentionLayout attention = reader.attention();
  attention.qk_norm = QkNormLayout{.eps = reader.norm_eps};
  const bool normed = reader.fields.boolean("norm_topk_prob", false);
  const int64_t chosen = reader.count("num_experts_per_tok", 8);
  const std::vector<bool> sparse = qwen_sparse_layers(reader);
  add_blocks(
      reader, attention, qwen_windows(reader, "Qwen3-MoE"),
      [&](int64_t i) { return sparse[static_cast<size_t>(i)]; },
      [&](const std::string& layer, const NormLayout& norm) {
        const std::string prefix = layer + ".mlp";
        MoeLayout moe = read_moe(reader, prefix, prefix + ".gate", {}, chosen, "moe_intermediate_size");
        moe.router.normed = normed;
        return pre_normed(norm, moe);
      });
  return reader.finish({"router_aux_loss_coef", "output_router_logits"});
}

ModelLayout olmoe_layout(const WeightSource& source) {
  DecoderReader reader(source, "OLMoE", 1e-5, 4096);
  AttentionLayout attention = reader.attention();
  attention.qk_norm = QkNormLayout{.over = QkNormLayout::Over::kProjection, .eps = reader.norm_eps};
  attention.clip = reader.positive_or_off("clip_qkv", 0);
  const bool normed = reader.fields.boolean("norm_topk_prob", false);
  const int64_t chosen = reader.count("num_experts_per_tok", 8);
  add_blocks(
      reader, attention, {}, [](int64_t) { return true; },
      [&](const std::string& layer, const NormLayout& norm) {
        const std::string prefix = layer + ".mlp";
        MoeLayout moe = read_moe(reader, prefix, prefix + ".gate", {}, chosen, "intermediate_size");
        moe.router.normed = normed;
        return pre_normed(norm, moe);
      });
  return reader.finish({"router_aux_loss_coef", "output_router_logits"});
}

}  // namespace ptq
