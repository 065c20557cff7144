#include "model/outer_weights.h"

#include "model/parts.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

const char* const kTieKey = "tie_word_embeddings";

// Reads the head, and leaves it out where it is the embedding.
void read_head(const WeightSource& source, const ModelLayout& layout, OuterWeights& outer,
               std::vector<std::string>& notes, std::vector<std::string>& warnings) {
  const std::string& embedding = layout.embedding;
  if (source.find(kHead) == nullptr) {
    if (layout.tied == false) {
      warnings.push_back(std::string("the configuration does not tie the head to the embedding, but ") +
                         kHead + " is not stored: " + embedding +
                         " is the head; other programs would make a random one");
    }
    return;
  }
  if (source.tied(kHead, embedding)) {
    notes.push_back(std::string(kHead) + " is tied to " + embedding + " and stored once");
    return;
  }
  outer.head = source.read(kHead, Role::kHead, outer.embedding.sizes().vec());
  if (layout.tied != true) return;
  if (outer.head->device().is_meta()) {
    outer.head.reset();
    notes.push_back(std::string(kHead) + " is taken for a copy of " + embedding +
                    ", as the configuration says, and not compared with it");
  } else if (at::equal(outer.head->values(), outer.embedding.values())) {
    outer.head.reset();
    notes.push_back(std::string(kHead) + " is a copy of " + embedding + " and stored once");
  } else {
    warnings.push_back(
        std::string("the configuration ties ") + kHead + " to " + embedding +
        ", but their values differ: both are kept, as in transformers 5; transformers 4 drops " + kHead);
  }
}

}  // namespace

Tensor OuterWeights::embed(const Tensor& ids) const {
  const Tensor on_device = ids.to(embedding.device());
  const QuantizedTensor* q = embedding.quantized();
  if (q == nullptr) return at::embedding(embedding.values(), on_device);
  // Of the rows that are looked up, no more.
  const Tensor rows = on_device.flatten();
  const auto of_rows = [&](const Tensor& t) {
    const bool by_row = t.defined() && t.dim() == 2;
    return by_row ? t.index_select(0, rows) : t;
  };
  const Tensor values = dequantize({of_rows(q->codes), of_rows(q->scale), of_rows(q->zero), q->scheme});
  std::vector<int64_t> shape = ids.sizes().vec();
  shape.push_back(embedding.size(1));
  return values.reshape(shape);
}

Tensor OuterWeights::logits(const Tensor& hidden) const {
  return ops::linear(final_norm(hidden), head_values);
}

std::vector<Weight*> OuterWeights::all() {
  std::vector<Weight*> weights = {&embedding, &final_norm.gain};
  if (head) weights.push_back(&*head);
  return weights;
}

std::optional<bool> states_tied_head(const Json& config, std::optional<bool> fallback) {
  if (!config.is_object()) return {};
  JsonFields fields(config, "config.json");
  for (const char* key : {kTieKey, "tie_embeddings"}) {
    if (fields.has(key)) return fields.boolean(key, false);
  }
  return fallback;
}

OuterWeights read_outer_weights(const WeightSource& source, const ModelLayout& layout,
                                std::vector<std::string>& notes, std::vector<std::string>& warnings) {
  const std::string& embedding = layout.embedding;
  const std::vector<int64_t> shape = need(source, embedding, 2).shape;
  OuterWeights outer;
  outer.embedding = source.read(embedding, Role::kEmbedding, shape);
  outer.final_norm = read_norm(source, layout.final_norm, shape[1]);
  read_head(source, layout, outer, notes, warnings);
  const Weight& head = outer.head ? *outer.head : outer.embedding;
  if (!head.device().is_meta()) outer.head_values = head.values();
  return outer;
}

Json with_true_head(Json config, std::optional<bool> stated, bool tied) {
  if (config.contains(kTieKey) || (stated && *stated != tied)) config[kTieKey] = tied;
  return config;
}

}  // namespace ptq
