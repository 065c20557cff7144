#include "model/outer_weights.h"

#include "model/parts.h"

namespace ptq {
namespace {

const char* const kTieKey = "tie_word_embeddings";

// Reads the head, and leaves it out where it is the embedding.
void read_head(const WeightSource& source, const ModelLayout& layout, OuterWeights& outer,
               std::vector<std::string>& notes, std::vector<std::string>& warnings) {
  const std::string &embedding = layout.embedding, &head = layout.head;
  if (source.find(head) == nullptr) {
    if (layout.tied == false) {
      warnings.push_back(std::string("the configuration does not tie the head to the embedding, but ") +
                         head + " is not stored: " + embedding +
                         " is the head; other programs would make a random one");
    }
    return;
  }
  if (source.tied(head, embedding)) {
    notes.push_back(head + " is tied to " + embedding + " and stored once");
    return;
  }
  outer.head = source.read(head, Role::kHead, outer.embedding.sizes().vec());
  if (layout.tied != true) return;
  if (outer.head->device().is_meta()) {
    outer.head.reset();
    notes.push_back(head + " is taken for a copy of " + embedding +
                    ", as the configuration says, and not compared with it");
  } else if (at::equal(outer.head->values(), outer.embedding.values())) {
    outer.head.reset();
    notes.push_back(head + " is a copy of " + embedding + " and stored once");
  } else {
    warnings.push_back(
        "the configuration ties " + head + " to " + embedding +
        ", but their values differ: both are kept, as in transformers 5; transformers 4 drops " + head);
  }
}

}  // namespace

Tensor OuterWeights::embed(const Tensor& ids, int64_t first) const {
  Tensor x = embedding_rows->rows(ids);
  if (embedding_scale != 1) x = x * embedding_scale;
  if (project_in) x = (*project_in)(Activation{x});
  if (!positions) return x;
  const int64_t last = first + ids.size(1), count = positions->size(0) - first_position;
  if (last > count)
    throw Error(
        positions->name,
        "has " + std::to_string(count) + " positions, and the text has reached " + std::to_string(last),
        "a shorter text");
  return x + positions->values().slice(0, first_position + first, first_position + last);
}

Tensor OuterWeights::logits(const Tensor& hidden) const {
  Tensor x = final_norm ? (*final_norm)(hidden) : hidden;
  if (project_out) x = (*project_out)(Activation{x});
  Tensor y = head_product->product(x);
  if (logits_scale != 1) y.mul_(logits_scale);
  if (softcap != 0) y.div_(softcap).tanh_().mul_(softcap);
  return y;
}

std::vector<Weight*> OuterWeights::all() {
  std::vector<Weight*> weights = {&embedding};
  if (project_in) weights.push_back(&project_in->weight);
  if (positions) weights.push_back(&*positions);
  if (final_norm) {
    for (Weight* weight : final_norm->weights()) weights.push_back(weight);
  }
  if (project_out) weights.push_back(&project_out->weight);
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
  int64_t d = shape[1];
  OuterWeights outer;
  outer.embedding = source.read(embedding, Role::kEmbedding, shape);
  outer.embedding_scale = layout.embedding_scale;
  if (!layout.project_in.empty()) {
    d = need(source, layout.project_in + ".weight", 2).shape[0];
    outer.project_in = read_linear(source, layout.project_in, "", d, shape[1], /*has_bias=*/false);
  }
  if (layout.positions) {
    const int64_t rows = need(source, layout.positions->weight, 2).shape[0];
    outer.positions = source.read(layout.positions->weight, Role::kPositions, {rows, d});
    outer.first_position = layout.positions->offset;
  }
  if (layout.final_norm) outer.final_norm = read_norm(source, *layout.final_norm, d);
  if (!layout.project_out.empty())
    outer.project_out = read_linear(source, layout.project_out, "", shape[1], d, /*has_bias=*/false);
  read_head(source, layout, outer, notes, warnings);
  outer.logits_scale = layout.logits_scale;
  outer.softcap = layout.softcap;
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
