// A language model as the rest of the program sees it: a stem, blocks that are loaded one at a time, and a
// head.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "ptq/model/linear.h"
#include "ptq/model/site.h"
#include "ptq/model/weight.h"

namespace ptq {

// What one block carries between tokens while decoding. The block that made it knows what the tensors are,
// and writes into them: a copy is no second state to go on from.
struct BlockState {
  std::vector<Tensor> tensors;
};

// "These weights feed those linears": channel c of the site is made by row c of every producer (its slice of
// rows), so dividing the producers' row c and multiplying the readers' column c by the same number changes
// nothing. Where several channels are made by one row (heads that share a value head), `row_of` says which.
struct FoldEdge {
  struct Rows {
    Weight* weight = nullptr;
    int64_t first = 0;  // the producer's rows [first, first + channels)
  };
  std::string site;
  std::vector<Rows> producers;
  // The first one's columns are those that DuQuant's authors look at (q of q, k, v; up of up and gate).
  std::vector<Linear*> readers;
  Tensor row_of =
      Tensor();  // [channels] int64: channel c is made by row row_of[c] of the slice; undefined: by row c
};

// Two sites whose values meet only in inner products over `width` consecutive channels (a query and a key
// head): one orthogonal map of `width` channels, applied to both, changes nothing.
struct ProductPair {
  std::string left, right;  // sites
  int64_t width = 0;
};

// What a block does for one sequence besides its linears.
struct MixingCost {
  double operations = 0;     // of floating point, for all tokens of the sequence
  int64_t state_values = 0;  // floats in the state after its last token
};

class Block {
 public:
  virtual ~Block() = default;
  // A copy that shares tensors: rounding one replaces its tensors and leaves the other as it was.
  virtual std::unique_ptr<Block> clone() const = 0;

  // hidden [batch, length, d_model] -> the same shape. With a state, the tokens continue those seen before.
  virtual Tensor forward(const Tensor& hidden, BlockState* state = nullptr) const = 0;
  // The state before the first token, for `batch` sequences.
  virtual BlockState initial_state(int64_t batch) const = 0;

  // "backbone.layers.3.mixer": names of sites in artifacts begin with it.
  virtual const std::string& prefix() const = 0;
  // In the order in which the forward reaches them.
  virtual std::vector<Site*> sites() = 0;
  virtual std::vector<Linear*> linears() = 0;
  // Every tensor of the block, those of the linears included.
  virtual std::vector<Weight*> weights() = 0;
  virtual std::vector<FoldEdge> fold_edges() = 0;
  virtual std::vector<ProductPair> product_pairs() { return {}; }

  virtual MixingCost mixing_cost(int64_t length) const = 0;

  // Throws Error if the block has no such site.
  Site& site(const std::string& name);
};

class Model {
 public:
  virtual ~Model() = default;

  virtual int64_t num_blocks() const = 0;
  virtual std::unique_ptr<Block> load_block(int64_t index) const = 0;
  virtual int64_t vocab_size() const = 0;  // rows of the embedding, padding included
  virtual int64_t hidden_size() const = 0;
  // The longest sequence the model can see; 0 if it has no limit.
  virtual int64_t context_limit() const = 0;
  // The token a text begins with when the model writes one itself. Throws Error if the configuration states
  // one that is not in the vocabulary.
  virtual int64_t start_token() const = 0;
  // config.json of the model in its Hugging Face form; made from the shapes if the source has none. It says
  // what the model holds, also where the source's says something else.
  virtual Json config() const = 0;

  // ids [batch, length] int64 -> hidden [batch, length, d_model].
  virtual Tensor embed(const Tensor& ids) const = 0;
  // hidden [..., d_model] -> logits [..., vocab], after the final norm.
  virtual Tensor logits(const Tensor& hidden) const = 0;
  // Embedding, final norm and head (if not tied): held for the life of the model.
  virtual std::vector<Weight*> outer_weights() = 0;
  // What the user should know about how the checkpoint was read ("lm_head.weight is tied to ...").
  const std::vector<std::string>& notes() const { return notes_; }
  // What the configuration says and the model does not do, or does otherwise.
  const std::vector<std::string>& warnings() const { return warnings_; }
  // The name that the head's weight would have, if it is the embedding; else "".
  const std::string& tied_head() const { return tied_head_; }
  int64_t num_parameters() const { return num_parameters_; }
  at::Device device() const { return device_; }

 protected:
  std::vector<std::string> notes_;
  std::vector<std::string> warnings_;
  std::string tied_head_;
  int64_t num_parameters_ = 0;
  at::Device device_ = at::kCPU;
};

// Throws Error if a value is NaN or infinite, which `where` and `what` made: a block's prefix and "its
// output", the model's head and "the logits". One pass over the values.
void expect_finite(const Tensor& values, const std::string& where, const std::string& what);

// One architecture. `quantize list` prints the table; nothing else in the program names one.
struct ArchitectureEntry {
  const char* name;    // "mamba"
  const char* family;  // "ssm": what methods say they are for
  const char* description;
  // What configurations call it: classes and model types ("MambaForCausalLM", "mamba").
  std::vector<std::string> declared;
  // What the names of the tensors in its blocks begin with: "backbone.layers.".
  const char* blocks;
  // True if the tensors are this architecture's, as far as names tell.
  bool (*has_tensors)(const WeightSource& source);
  std::unique_ptr<Model> (*make)(const WeightSource& source);
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
