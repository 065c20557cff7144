// Embedding, final norm and head: what every model has around its blocks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "ptq/model/block.h"

namespace ptq {

struct OuterWeights {
  Weight embedding;  // [vocab, e]
  double embedding_scale = 1;
  std::optional<Linear> project_in;                          // [d, e]; absent if e is d
  std::optional<Weight> positions;                           // [rows, d]
  int64_t first_position = 0;                                // its row
  std::optional<Norm> final_norm;                            // [d]
  std::optional<Linear> project_out;                         // [e, d]
  std::optional<Weight> head;                                // [vocab, e]; absent if it is the embedding
  double logits_scale = 1, softcap = 0;                      // see ModelLayout
  std::optional<StoredWeight> embedding_rows, head_product;  // what forwards use; not on the meta device

  int64_t hidden_size() const { return project_in ? project_in->weight.size(0) : embedding.size(1); }
  // ids [batch, length] int64, of which the first is at position `first` -> [batch, length, d]. Throws Error
  // for a position beyond those there are.
  Tensor embed(const Tensor& ids, int64_t first) const;
  // hidden [..., d] -> [..., vocab].
  Tensor logits(const Tensor& hidden) const;
  std::vector<Weight*> all();
};

// Whether the configuration ties the head to the embedding: what it says, or `fallback`, its class's default.
// nullopt if there is no configuration.
std::optional<bool> states_tied_head(const Json& config, std::optional<bool> fallback);

// Reads what the layout names. The head is the embedding if it is not stored, shares the embedding's
// storage, or equals it while the layout says that it is tied (on the meta device, where there are no
// values, if the layout says so). What the user should know of it goes into `notes`, and into `warnings` if
// it is not as the layout says.
OuterWeights read_outer_weights(const WeightSource& source, const ModelLayout& layout,
                                std::vector<std::string>& notes, std::vector<std::string>& warnings);

// The configuration with what is true of the head, where it says or means (`stated`) something else.
Json with_true_head(Json config, std::optional<bool> stated, bool tied);

}  // namespace ptq
