// Embedding, final norm and head: what every model has around its blocks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ptq/model/weight.h"

namespace ptq {

inline constexpr const char* kHead = "lm_head.weight";

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

// Whether the configuration ties the head to the embedding: what it says, or `fallback`, its class's default.
// nullopt if there is no configuration.
std::optional<bool> states_tied_head(const Json& config, std::optional<bool> fallback);

// Reads the tensors `embedding` [vocab, d], `final_norm` [d] and lm_head.weight. The head is the embedding if
// it is not stored, shares the embedding's storage, or equals it while `tied` says that it is (on the meta
// device, where there are no values, if `tied` says so). What the user should know of it goes into `notes`,
// and into `warnings` if it is not as `tied` says.
OuterWeights read_outer_weights(const WeightSource& source, const std::string& embedding,
                                const std::string& final_norm, std::optional<bool> tied,
                                std::vector<std::string>& notes, std::vector<std::string>& warnings);

// The configuration with what is true of the head, where it says or means (`stated`) something else.
Json with_true_head(Json config, std::optional<bool> stated, bool tied);

}  // namespace ptq
