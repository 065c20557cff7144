// What the architectures share in reading a checkpoint.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/model/linear.h"
#include "ptq/model/site.h"
#include "ptq/model/weight.h"

namespace ptq {

inline constexpr const char* kHead = "lm_head.weight";

// The tensor `name`, which must have so many dimensions, none of them empty. Throws Error otherwise.
const TensorInfo& need(const WeightSource& source, const std::string& name, size_t dimensions);

// The configuration may say a size under any of these keys; if it does, it must be the shape's. Throws Error
// with both numbers otherwise.
void expect_equal(JsonFields& fields, std::initializer_list<const char*> keys, int64_t from_shapes);

// The layer `name`, weight [out, in], with its bias [out] if one is stored.
Linear read_linear(const WeightSource& source, const std::string& name, const char* site, int64_t out,
                   int64_t in);

Site make_site(const char* name, const char* kind);

// Embedding, final norm and head: what every model has around its blocks.
struct OuterWeights {
  Weight embedding;            // [vocab, d]
  Weight final_norm;           // [d]
  std::optional<Weight> head;  // [vocab, d]; absent if it is the embedding
  double norm_eps = 1e-5;

  // ids [batch, length] int64 -> [batch, length, d].
  Tensor embed(const Tensor& ids) const;
  // hidden [..., d] -> [..., vocab].
  Tensor logits(const Tensor& hidden) const;
  std::vector<Weight*> all();
};

// Reads the tensors `embedding` [vocab, d], `final_norm` [d] and lm_head.weight. The head is the embedding if
// it is not stored, shares the embedding's storage, or equals it while the configuration says that it is
// tied (on the meta device, where there are no values, if the configuration says so). What the user should
// know of it goes into `notes`.
OuterWeights read_outer_weights(const WeightSource& source, const std::string& embedding,
                                const std::string& final_norm, std::vector<std::string>& notes);

// Elements of all tensors; those of lm_head.weight only if it is not tied.
int64_t count_parameters(const WeightSource& source, bool tied);

}  // namespace ptq
