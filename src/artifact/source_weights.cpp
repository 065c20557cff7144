#include "ptq/artifact/source_weights.h"

#include "artifact/reader.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

// A weight that reads a site was multiplied by the site's smoothing scales s, then transformed by T:
// W' = (W s) T.
void undo_as_reader(const Site& site, SourceWeight& weight) {
  if (!site.transform.empty()) weight.value = site.transform.apply_inverse(weight.value);
  if (site.smooth.defined()) weight.value = weight.value / site.smooth;
  if (site.smooth.defined()) weight.rewrite = "smooth";
  if (!site.transform.empty())
    weight.rewrite += (weight.rewrite.empty() ? "" : ", ") + transform_text(site.transform);
}

// What a layer computes with is its rounded weight and the low-rank term beside it.
void add_correction(Block& block, const std::string& name, SourceWeight& weight) {
  for (const Linear* linear : block.linears()) {
    if (linear->weight.name == name && linear->correction)
      weight.value = weight.value + linear->correction->product();
  }
}

void undo_rewrites(Block& block, const std::string& name, SourceWeight& weight) {
  for (const Linear* linear : block.linears()) {
    if (linear->weight.name == name) undo_as_reader(block.site(linear->site), weight);
  }
  for (const FoldEdge& edge : block.fold_edges()) {
    const Tensor& s = block.site(edge.sites.front()).smooth;
    if (!s.defined()) continue;
    for (const FoldEdge::Rows& producer : edge.producers) {
      if (producer.weight->name != name) continue;
      weight.value = unfolded(edge, producer, s, weight.value);
      weight.rewrite += weight.rewrite.empty() ? "smoothed rows" : ", smoothed rows";
    }
  }
}

}  // namespace

SourceWeights::SourceWeights(const Checkpoint& checkpoint)
    : checkpoint_(checkpoint), own_source_(make_source(checkpoint, at::kCPU)), source_(own_source_.get()) {
  if (!is_artifact(checkpoint)) return;
  static_cast<const ArtifactSource&>(*source_).check_complete();
  shapes_ = std::make_unique<ListedSource>(*source_);
  model_ = find_architecture(*shapes_, checkpoint.path()).make(*shapes_);
  for (int64_t i = 0; i < model_->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model_->load_block(i);
    for (const Weight* weight : block->weights()) block_of_[weight->name] = i;
  }
}

SourceWeights::SourceWeights(const OpenModel& open)
    : checkpoint_(*open.checkpoint), source_(open.source.get()) {}

SourceWeights::~SourceWeights() = default;

void SourceWeights::enter_block(int64_t index) {
  if (index == block_index_) return;
  block_index_ = -1;
  block_ = model_->load_block(index);
  static_cast<const ArtifactSource&>(*source_).configure_sites(*block_);
  static_cast<const ArtifactSource&>(*source_).configure_corrections(*block_);
  block_index_ = index;
}

SourceWeight SourceWeights::read(const std::string& name) {
  const TensorInfo* info = source_->find(name);
  if (info == nullptr) throw Error(name, "there is no such weight in " + checkpoint_.path());
  SourceWeight weight;
  weight.bits = 8.0 * static_cast<double>(dtype_bytes(info->dtype));
  const bool is_float =
      info->dtype == DType::kF32 || info->dtype == DType::kF16 || info->dtype == DType::kBF16;
  bool corrected = false;
  if (is_foreign()) {
    const Weight stored = source_->read(name, Role::kLinear, info->shape);
    const int float_bits = is_float ? static_cast<int>(weight.bits) : 0;
    weight.bits = stored.quantized() ? stored.quantized()->scheme.bits : float_bits;
    weight.value = stored.values();
  } else if (quantized() && !is_float) {
    const Weight stored = source_->read(name, Role::kLinear, info->shape);
    if (stored.quantized()) weight.bits = stored.quantized()->scheme.bits;
    weight.value = stored.values();
    corrected = true;
  } else {
    weight.value = as_tensor(checkpoint_.read(name)).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    checkpoint_.drop(name);
  }
  const auto block = block_of_.find(name);
  if (block == block_of_.end()) return weight;
  enter_block(block->second);
  if (corrected) add_correction(*block_, name, weight);
  undo_rewrites(*block_, name, weight);
  return weight;
}

}  // namespace ptq
