#include "ptq/model/block.h"

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// What the sublayer adds to `hidden`. `states`, one a branch, may be null.
Tensor branches_sum(const Sublayer& sublayer, const Tensor& hidden, PartState* states) {
  std::vector<Tensor> normed;
  for (const Norm& norm : sublayer.norms) normed.push_back(norm(hidden));
  Tensor sum;
  for (size_t b = 0; b < sublayer.branches.size(); ++b) {
    const Branch& branch = sublayer.branches[b];
    Tensor x = branch.norm < 0 ? hidden : normed.at(static_cast<size_t>(branch.norm));
    if (branch.in_scale != 1) x = x * branch.in_scale;
    Tensor y = branch.part->forward(x, states == nullptr ? nullptr : &states[b]);
    if (branch.out_scale != 1) y.mul_(branch.out_scale);
    sum = sum.defined() ? sum.add_(y) : y;
  }
  return sum;
}

// "These sites read that norm", for each norm of the sublayer that any site reads directly.
void add_norm_edges(Sublayer& sublayer, std::vector<FoldEdge>& edges) {
  for (size_t n = 0; n < sublayer.norms.size(); ++n) {
    FoldEdge edge;
    edge.producers.push_back({&sublayer.norms[n].gain});
    for (Branch& branch : sublayer.branches) {
      if (branch.norm != static_cast<int>(n)) continue;
      for (PartInput& input : branch.part->inputs()) {
        edge.sites.push_back(input.site);
        edge.readers.insert(edge.readers.end(), input.readers.begin(), input.readers.end());
      }
    }
    if (!edge.sites.empty()) edges.push_back(std::move(edge));
  }
}

template <typename T>
void append(std::vector<T>& all, std::vector<T> more) {
  for (T& item : more) all.push_back(std::move(item));
}

}  // namespace

Tensor Norm::operator()(const Tensor& x) const {
  return ops::rms_norm(x, gain.value, eps);
}

Block::Block(std::string prefix, std::vector<Sublayer> sublayers)
    : prefix_(std::move(prefix)), sublayers_(std::move(sublayers)) {}

std::unique_ptr<Block> Block::clone() const {
  std::vector<Sublayer> sublayers;
  for (const Sublayer& sublayer : sublayers_) {
    Sublayer copy{sublayer.norms, {}, sublayer.post, sublayer.residual_scale};
    for (const Branch& branch : sublayer.branches) {
      copy.branches.push_back({branch.part->clone(), branch.norm, branch.in_scale, branch.out_scale});
    }
    sublayers.push_back(std::move(copy));
  }
  return std::make_unique<Block>(prefix_, std::move(sublayers));
}

Tensor Block::forward(const Tensor& hidden, BlockState* state) const {
  Tensor x = hidden;
  PartState* states = state == nullptr ? nullptr : state->parts.data();
  for (const Sublayer& sublayer : sublayers_) {
    Tensor y = branches_sum(sublayer, x, states);
    if (sublayer.post) y = (*sublayer.post)(y);
    if (sublayer.residual_scale != 1) y.mul_(sublayer.residual_scale);
    x = y.add_(x);
    if (states != nullptr) states += sublayer.branches.size();
  }
  return x;
}

BlockState Block::initial_state(int64_t batch) const {
  BlockState state;
  for (const Part* part : parts()) state.parts.push_back(part->initial_state(batch));
  return state;
}

std::vector<Part*> Block::parts() const {
  std::vector<Part*> all;
  for (const Sublayer& sublayer : sublayers_) {
    for (const Branch& branch : sublayer.branches) all.push_back(branch.part.get());
  }
  return all;
}

std::vector<Site*> Block::sites() {
  std::vector<Site*> all;
  for (Part* part : parts()) append(all, part->sites());
  return all;
}

std::vector<Linear*> Block::linears() {
  std::vector<Linear*> all;
  for (Part* part : parts()) append(all, part->linears());
  return all;
}

std::vector<Weight*> Block::weights() {
  std::vector<Weight*> all;
  for (Sublayer& sublayer : sublayers_) {
    for (Norm& norm : sublayer.norms) all.push_back(&norm.gain);
    if (sublayer.post) all.push_back(&sublayer.post->gain);
  }
  for (Part* part : parts()) append(all, part->weights());
  return all;
}

std::vector<FoldEdge> Block::fold_edges() {
  std::vector<FoldEdge> all;
  for (Sublayer& sublayer : sublayers_) {
    add_norm_edges(sublayer, all);
    for (Branch& branch : sublayer.branches) append(all, branch.part->fold_edges());
  }
  return all;
}

std::vector<ProductPair> Block::product_pairs() {
  std::vector<ProductPair> all;
  for (Part* part : parts()) append(all, part->product_pairs());
  return all;
}

MixingCost Block::mixing_cost(int64_t length) const {
  MixingCost cost;
  for (const Part* part : parts()) {
    const MixingCost of_part = part->mixing_cost(length);
    cost.operations += of_part.operations;
    cost.state_values += of_part.state_values;
  }
  return cost;
}

Site& Block::site(const std::string& name) {
  std::vector<std::string> names;
  for (Site* site : sites()) {
    if (site->name == name) return *site;
    names.push_back(site->name);
  }
  throw Error(prefix(), "no activation site \"" + name + "\"", suggest(name, names));
}

}  // namespace ptq
