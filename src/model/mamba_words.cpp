#include "model/mamba_words.h"

#include <cmath>

#include "ptq/model/published_names.h"

namespace ptq {
namespace {

const char* const kEmbeddingNames[] = {"backbone.embeddings.weight", "backbone.embedding.weight"};

}  // namespace

std::string published_name(const std::string& name) {
  return name == kEmbeddingNames[1] ? kEmbeddingNames[0] : name;
}

std::string mamba_embedding(const WeightSource& source) {
  std::string found;
  for (const char* name : kEmbeddingNames) {
    if (source.find(name) != nullptr) found = name;
  }
  if (found.empty()) throw missing_tensor(kEmbeddingNames[0]);
  return found;
}

Mamba1Layout read_mamba1_sizes(const WeightSource& source, const std::string& prefix, int64_t d_model) {
  const std::vector<int64_t>& decay = need(source, prefix + ".A_log", 2).shape;
  return {.prefix = prefix,
          .d_model = d_model,
          .d_inner = decay[0],
          .d_state = decay[1],
          .d_conv = need(source, prefix + ".conv1d.weight", 3).shape[2],
          .dt_rank = need(source, prefix + ".dt_proj.weight", 2).shape[1]};
}

void check_mamba_vocabulary(JsonFields& fields, bool padded, int64_t rows) {
  const int64_t multiple = fields.integer("pad_vocab_size_multiple", padded ? 8 : 1);
  const int64_t stated = fields.integer("vocab_size", rows);
  const bool fits =
      multiple > 0 && stated > 0 && stated <= rows && rows % multiple == 0 && rows - stated < multiple;
  if (!fits) expect_equal(fields, {"vocab_size"}, rows);
}

void check_mamba_expand(JsonFields& fields, int64_t d_model, int64_t d_inner) {
  if (!fields.has("expand")) return;
  const double stated = fields.number("expand", 0) * static_cast<double>(d_model);
  if (static_cast<double>(d_inner) == std::floor(stated)) return;
  throw Error(config_place(fields, "expand"),
              "is " + fields.at("expand").dump() + ", but the tensors widen " + std::to_string(d_model) +
                  " channels to " + std::to_string(d_inner),
              "the configuration belongs to another checkpoint; --config names the right one");
}

double read_mamba_eps(JsonFields& fields, double fallback) {
  const double eps = fields.number("layer_norm_epsilon", fallback);
  if (eps > 0 && eps < 1) return eps;
  throw Error(config_place(fields, "layer_norm_epsilon"),
              "is " + Json(eps).dump() + "; it must lie between 0 and 1");
}

void expect_rms_norm(JsonFields& fields) {
  if (fields.boolean("rms_norm", true)) return;
  throw Error(config_place(fields, "rms_norm"),
              "LayerNorm is not supported; published Mamba models use RMSNorm");
}

Json with_true_vocabulary(Json config, int64_t rows) {
  if (config.contains("vocab_size")) config["vocab_size"] = rows;
  return config;
}

}  // namespace ptq
