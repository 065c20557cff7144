#include "ptq/model/model.h"

#include <algorithm>

#include "model/layout.h"
#include "model/outer_weights.h"
#include "model/parts.h"
#include "ptq/base/error.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

Sublayer read_sublayer(const WeightSource& source, const std::string& prefix, const SublayerLayout& layout,
                       int64_t d_model) {
  Sublayer sublayer;
  sublayer.prefix = prefix;
  for (const NormLayout& norm : layout.norms) sublayer.norms.push_back(read_norm(source, norm, d_model));
  for (const BranchLayout& branch : layout.branches) {
    const auto make = [&source](const auto& part) { return make_part(source, part); };
    sublayer.branches.push_back(
        {std::visit(make, branch.part), branch.norm, branch.in_scale, branch.out_scale});
  }
  if (layout.post) sublayer.post = read_norm(source, *layout.post, d_model);
  sublayer.residual_scale = layout.residual_scale;
  if (layout.closing) sublayer.closing = read_norm(source, *layout.closing, d_model);
  return sublayer;
}

}  // namespace

Norm read_norm(const WeightSource& source, const NormLayout& layout, int64_t channels) {
  Norm norm{source.read(layout.weight, Role::kNorm, {channels}), layout.eps, layout.offset, layout.centred};
  if (!layout.bias.empty()) norm.bias = source.read(layout.bias, Role::kBias, {channels});
  return norm;
}

Model::Model(const WeightSource& source, ModelLayout layout, OnLoad on_load)
    : source_(source),
      layout_(std::make_unique<ModelLayout>(std::move(layout))),
      on_load_(std::move(on_load)),
      warnings_(layout_->warnings),
      outer_(std::make_unique<OuterWeights>(read_outer_weights(source, *layout_, notes_, warnings_))),
      config_(with_true_head(layout_->config, layout_->tied, !outer_->head)),
      num_parameters_(count_parameters(source, tied_head())) {}

Model::~Model() = default;

std::unique_ptr<Block> Model::load_block(int64_t index) const {
  const BlockLayout& layout = layout_->blocks.at(static_cast<size_t>(index));
  std::vector<Sublayer> sublayers;
  for (const SublayerLayout& sublayer : layout.sublayers)
    sublayers.push_back(read_sublayer(source_, layout.prefix, sublayer, hidden_size()));
  auto block = std::make_unique<Block>(layout.prefix, std::move(sublayers));
  if (on_load_) on_load_(*block);
  return block;
}

int64_t Model::num_blocks() const {
  return static_cast<int64_t>(layout_->blocks.size());
}
int64_t Model::vocab_size() const {
  return outer_->embedding.size(0);
}
int64_t Model::hidden_size() const {
  return outer_->hidden_size();
}
int64_t Model::context_limit() const {
  return layout_->context_limit;
}
int64_t Model::start_token() const {
  return layout_->start_token.id();
}
at::Device Model::device() const {
  return source_.device();
}

std::string Model::tied_head() const {
  return outer_->head ? "" : layout_->head;
}

Tensor Model::embed(const Tensor& ids, int64_t first) const {
  return outer_->embed(ids, first);
}
Tensor Model::logits(const Tensor& hidden) const {
  return outer_->logits(hidden);
}
std::vector<Weight*> Model::outer_weights() {
  return outer_->all();
}

std::unique_ptr<Model> ArchitectureEntry::make(const WeightSource& source, Model::OnLoad on_load) const {
  return std::make_unique<Model>(source, layout(source), std::move(on_load));
}

bool ArchitectureEntry::is_among(const std::vector<std::string>& wanted) const {
  return wanted.empty() || std::ranges::find_first_of(families, wanted) != families.end();
}

void expect_finite(const Tensor& values, const std::string& where, const std::string& what) {
  if (values.numel() == 0 || ops::all_finite(values)) return;
  const auto bad = (values.numel() - at::isfinite(values).sum()).item<int64_t>();
  throw Error(
      where,
      std::to_string(bad) + " of " + std::to_string(values.numel()) + " values of " + what +
          " are NaN or infinite, and all before it are finite",
      "the weights before it are too large for float32, or the checkpoint is damaged: `quantize inspect` "
      "shows the largest value of each tensor");
}

}  // namespace ptq
