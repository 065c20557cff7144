#include "model/reading.h"

#include "ptq/base/error.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

bool states_tied_head(const Json& config) {
  if (!config.is_object()) return false;
  JsonFields fields(config, "config.json");
  return fields.boolean("tie_word_embeddings", fields.boolean("tie_embeddings", false));
}

}  // namespace

const TensorInfo& need(const WeightSource& source, const std::string& name, size_t dimensions) {
  const TensorInfo* info = source.find(name);
  if (info == nullptr) throw Error(name, "the tensor is missing from the checkpoint");
  if (info->shape.size() != dimensions) {
    throw Error(name, "has shape " + shape_text(info->shape) + "; " + std::to_string(dimensions) +
                          " dimensions are needed");
  }
  for (const int64_t size : info->shape) {
    if (size <= 0) throw Error(name, "has shape " + shape_text(info->shape) + " with an empty dimension");
  }
  return *info;
}

void expect_equal(JsonFields& fields, std::initializer_list<const char*> keys, int64_t from_shapes) {
  for (const char* key : keys) {
    if (!fields.has(key) || !fields.at(key).is_number()) continue;  // time_step_rank may be "auto"
    const int64_t stated = fields.integer(key, 0);
    if (stated != from_shapes) {
      throw Error(
          std::string("config.json: ") + key,
          "is " + std::to_string(stated) + ", but the tensors' shapes say " + std::to_string(from_shapes),
          "the configuration belongs to another checkpoint; --config names the right one");
    }
  }
}

Linear read_linear(const WeightSource& source, const std::string& name, const char* site, int64_t out,
                   int64_t in) {
  Linear linear;
  linear.name = name;
  linear.site = site;
  linear.weight = source.read(name + ".weight", Role::kLinear, {out, in});
  if (source.find(name + ".bias") != nullptr) linear.bias = source.read(name + ".bias", Role::kBias, {out});
  return linear;
}

Site make_site(const char* name, const char* kind) {
  Site site;
  site.name = name;
  site.kind = kind;
  return site;
}

Tensor OuterWeights::embed(const Tensor& ids) const {
  return at::embedding(embedding.value, ids.to(embedding.value.device()));
}

Tensor OuterWeights::logits(const Tensor& hidden) const {
  const Tensor normed = ops::rms_norm(hidden, final_norm.value, norm_eps);
  return ops::linear(normed, head ? head->value : embedding.value);
}

std::vector<Weight*> OuterWeights::all() {
  std::vector<Weight*> weights = {&embedding, &final_norm};
  if (head) weights.push_back(&*head);
  return weights;
}

OuterWeights read_outer_weights(const WeightSource& source, const std::string& embedding,
                                const std::string& final_norm, std::vector<std::string>& notes) {
  const std::vector<int64_t> shape = need(source, embedding, 2).shape;
  OuterWeights outer;
  outer.embedding = source.read(embedding, Role::kEmbedding, shape);
  outer.final_norm = source.read(final_norm, Role::kNorm, {shape[1]});
  if (source.find(kHead) == nullptr) return outer;
  if (source.tied(kHead, embedding)) {
    notes.push_back(std::string(kHead) + " is tied to " + embedding + " and stored once");
    return outer;
  }
  outer.head = source.read(kHead, Role::kHead, shape);
  if (!states_tied_head(source.config())) return outer;
  if (outer.head->value.is_meta()) {
    outer.head.reset();
    notes.push_back(std::string(kHead) + " is taken for a copy of " + embedding +
                    ", as the configuration says, and not compared with it");
  } else if (at::equal(outer.head->value, outer.embedding.value)) {
    outer.head.reset();
    notes.push_back(std::string(kHead) + " is a copy of " + embedding + " and stored once");
  } else {
    notes.push_back(std::string("the configuration ties ") + kHead + " to " + embedding +
                    ", but their values differ: both are kept");
  }
  return outer;
}

int64_t count_parameters(const WeightSource& source, bool tied) {
  int64_t count = 0;
  for (const std::string& name : source.names()) {
    if (tied && name == kHead) continue;
    count += source.find(name)->num_elements();
  }
  return count;
}

}  // namespace ptq
