#include "model/decoder_reader.h"

#include "model/nonlinearity.h"

namespace ptq {

DecoderReader::DecoderReader(const WeightSource& source, const char* name, double default_eps,
                             int64_t context_limit, bool tied, const std::string& final_norm)
    : LayoutReader(source, name, "model.embed_tokens.weight", "model.layers.", tied),
      norm_eps(eps("rms_norm_eps", default_eps)),
      f(read_nonlinearity(fields, "hidden_act", "silu")) {
  expect_equal(fields, {"hidden_size"}, hidden);
  model.context_limit = count("max_position_embeddings", context_limit);
  model.final_norm = norm(final_norm);
}

AttentionLayout DecoderReader::attention(const std::string& prefix, bool biases, bool rotates) {
  const Heads heads =
      read_heads(fields, hidden, rows(prefix + ".q_proj.weight"), rows(prefix + ".k_proj.weight"));
  AttentionLayout layout{.prefix = prefix,
                         .d_model = hidden,
                         .heads = heads.queries,
                         .kv_heads = heads.keys,
                         .head_dim = heads.channels,
                         .qkv_bias = biases,
                         .o_bias = biases};
  if (rotates) layout.rope = rope(heads.channels);
  return layout;
}

AttentionLayout DecoderReader::attention() {
  const std::string prefix = layer(0) + ".self_attn";
  return attention(prefix, bias("attention_bias", false, prefix + ".q_proj.bias"));
}

DenseLayout DecoderReader::feed_forward(const std::string& prefix, const char* size_key) {
  const int64_t d_inner = rows(prefix + ".gate_proj.weight");
  expect_equal(fields, {size_key}, d_inner);
  return {.prefix = prefix,
          .d_model = hidden,
          .d_inner = d_inner,
          .bias = bias("mlp_bias", false, prefix + ".gate_proj.bias"),
          .f = f};
}

}  // namespace ptq
