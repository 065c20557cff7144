#include "model/outer_weights.h"

#include "model/parts.h"

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
  return embedding_rows->rows(ids);
}

Tensor OuterWeights::logits(const Tensor& hidden) const {
  return head_product->product(final_norm(hidden));
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
  if (source.device().is_meta()) return outer;
  outer.embedding_rows = outer.embedding.as_stored();
  outer.head_product = outer.head ? outer.head->as_stored() : outer.embedding_rows;
  return outer;
}

Json with_true_head(Json config, std::optional<bool> stated, bool tied) {
  if (config.contains(kTieKey) || (stated && *stated != tied)) config[kTieKey] = tied;
  return config;
}

}  // namespace ptq
