// A language model as the rest of the program sees it: a stem, blocks that are loaded one at a time, and a
// head.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ptq/model/block.h"
#include "ptq/model/linear.h"
#include "ptq/model/site.h"
#include "ptq/model/weight.h"

namespace ptq {

struct ModelLayout;
struct OuterWeights;

class Model {
 public:
  // What is done to each block that is loaded: an artifact gives its sites their quantizers.
  using OnLoad = std::function<void(Block&)>;

  // Reads embedding, final norm and head, and of the blocks nothing yet. `source` must outlive the model.
  // Throws Error if one of them is missing or has another shape.
  Model(const WeightSource& source, ModelLayout layout, OnLoad on_load = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  int64_t num_blocks() const;
  std::unique_ptr<Block> load_block(int64_t index) const;
  int64_t vocab_size() const;  // rows of the embedding, padding included
  int64_t hidden_size() const;
  // The longest sequence the model can see; 0 if it has no limit.
  int64_t context_limit() const;
  // The token a text begins with when the model writes one itself. Throws Error if the configuration states
  // one that is not in the vocabulary.
  int64_t start_token() const;
  // config.json of the model in its Hugging Face form; made from the shapes if the source has none. It says
  // what the model holds, also where the source's says something else.
  const Json& config() const { return config_; }

  // ids [batch, length] int64, of which the first are at position `first` of their texts -> hidden [batch,
  // length, d_model]. Throws Error for a position that the model does not have.
  Tensor embed(const Tensor& ids, int64_t first = 0) const;
  // hidden [..., d_model] -> logits [..., vocab], after the final norm.
  Tensor logits(const Tensor& hidden) const;
  // Embedding, final norm and head (if not tied): held for the life of the model.
  std::vector<Weight*> outer_weights();
  // What the user should know about how the checkpoint was read ("lm_head.weight is tied to ...").
  const std::vector<std::string>& notes() const { return notes_; }
  // What the configuration says and the model does not do, or does otherwise.
  const std::vector<std::string>& warnings() const { return warnings_; }
  // The name that the head's weight would have, if it is the embedding; else "".
  std::string tied_head() const;
  int64_t num_parameters() const { return num_parameters_; }
  at::Device device() const;

 private:
  const WeightSource& source_;
  std::unique_ptr<ModelLayout> layout_;
  OnLoad on_load_;
  std::vector<std::string> notes_;
  std::vector<std::string> warnings_;
  std::unique_ptr<OuterWeights> outer_;
  Json config_;
  int64_t num_parameters_ = 0;
};

// Throws Error if a value is NaN or infinite, which `where` and `what` made: a block's prefix and "its
// output", the model's head and "the logits". One pass over the values.
void expect_finite(const Tensor& values, const std::string& where, const std::string& what);

// One architecture. `quantize list` prints the table; nothing else in the program names one.
struct ArchitectureEntry {
  const char* name;                   // "mamba"
  std::vector<std::string> families;  // {"ssm"}: what methods say they are for
  const char* description;
  // What configurations call it: classes and model types ("MambaForCausalLM", "mamba").
  std::vector<std::string> declared;
  // What the names of the tensors in its blocks begin with: "backbone.layers.".
  const char* blocks;
  // True if the tensors are this architecture's, as far as names tell; null: they do not tell, and it is
  // known by its configuration alone.
  bool (*has_tensors)(const WeightSource& source);
  // What the model is made of. Throws Error if shapes disagree with each other or with the configuration, or
  // if it asks for what is not supported.
  ModelLayout (*layout)(const WeightSource& source);
  // Tensors that published checkpoints have beside the model, shell patterns: heads that predict further
  // tokens.
  std::vector<const char*> left_aside = {};

  std::unique_ptr<Model> make(const WeightSource& source, Model::OnLoad on_load = {}) const;
  // True if it is of one of these families, or if none are named: what a method that is for them can be used
  // on.
  bool is_among(const std::vector<std::string>& wanted) const;
};

const std::vector<ArchitectureEntry>& architectures();

// What the configuration calls the model, under "architectures" and "model_type", each name once; none for a
// null `config`.
std::vector<std::string> declared_architectures(const Json& config);

// The row that has every name that the configuration declares, and whose blocks the tensors are; if nothing
// is declared, the first that has the tensors. nullptr if there is none.
const ArchitectureEntry* match_architecture(const WeightSource& source);

// The same, but throws Error where there is none: with what is declared, the tensors seen and the
// architectures supported. `path` names the source in the message; `purpose`, if not empty, is added to it:
// what the caller wants a model for.
const ArchitectureEntry& find_architecture(const WeightSource& source, const std::string& path,
                                           const std::string& purpose = "");

// Throws Error, listing them, if the source has tensors that the model of `entry` does not read, for then it
// is another model. Some that are known to hold nothing are let by (frequencies of the rotary embedding,
// causal masks), and copies of the embedding or the head. `path` names the source in the message. Cost: the
// construction of every block, without its values.
void expect_all_read(const ArchitectureEntry& entry, const WeightSource& source, const std::string& path);

}  // namespace ptq
