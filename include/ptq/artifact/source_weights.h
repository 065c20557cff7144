// The weights of any checkpoint as the float model had them: what an artifact holds in codes is dequantized,
// and what a run has folded into it (smoothing scales, rotations, permutations) is undone.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/model/listed_source.h"

namespace ptq {

struct SourceWeight {
  Tensor value;         // float32
  double bits = 0;      // of a code, or of the stored float; 0: of blocks that are neither
  std::string rewrite;  // what was undone: "smooth, hadamard(128)"; empty: nothing
};

class SourceWeights {
 public:
  // `checkpoint` must outlive it. Reads headers only. Throws Error for an artifact whose architecture is not
  // known or whose configuration is malformed or incomplete; a float checkpoint may be any.
  explicit SourceWeights(const Checkpoint& checkpoint);
  // What a format of another program opened, of which there is nothing to undo. `open` must outlive it.
  explicit SourceWeights(const OpenModel& open);
  ~SourceWeights();

  // Sorted; a quantized weight has the name of the weight it stands for.
  std::vector<std::string> names() const { return source_->names(); }
  // Its logical shape and stored dtype. nullptr if there is no such weight.
  const TensorInfo* find(const std::string& name) const { return source_->find(name); }
  bool quantized() const { return is_foreign() || shapes_ != nullptr; }
  // Memory: a few times the weight; of the block it lies in, the scales and transforms of the sites. Values
  // may be NaN or infinite. Throws Error if libtorch lacks the dtype, or the artifact is damaged.
  SourceWeight read(const std::string& name);

 private:
  void enter_block(int64_t index);
  bool is_foreign() const { return own_source_ == nullptr; }

  const Checkpoint& checkpoint_;
  std::unique_ptr<WeightSource> own_source_;  // none of what another program wrote
  const WeightSource* source_;
  // Of an artifact: the model with sizes but no values, which knows how weights and sites hang together.
  std::unique_ptr<ListedSource> shapes_;
  std::unique_ptr<Model> model_;
  std::map<std::string, int64_t> block_of_;
  std::unique_ptr<Block> block_;  // the last one entered, with its sites
  int64_t block_index_ = -1;
};

}  // namespace ptq
