#include "ptq/model/block.h"

namespace ptq {
namespace {

template <typename T>
void append(std::vector<T>& all, std::vector<T> more) {
  for (T& item : more) all.push_back(std::move(item));
}

}  // namespace

Block::Block(std::string prefix, std::vector<Sublayer> sublayers)
    : prefix_(std::move(prefix)), sublayers_(std::move(sublayers)) {}

Tensor Block::forward(const Tensor& hidden, BlockState* state, Observer* observer) const {
  Tensor x = hidden;
  PartState* states = state == nullptr ? nullptr : state->parts.data();
  for (const Sublayer& sublayer : sublayers_) {
    x = sublayer.forward(x, states, observer);
    if (states != nullptr) states += sublayer.branches.size();
  }
  return x;
}

void Block::prepare() {
  for (Sublayer& sublayer : sublayers_) sublayer.prepare();
}

void Block::seal(const Compute& compute) {
  for (Sublayer& sublayer : sublayers_) sublayer.seal(compute);
}

BlockState Block::initial_state(int64_t batch, CacheFloats floats) const {
  BlockState state;
  for (const Sublayer& sublayer : sublayers_) {
    for (const Branch& branch : sublayer.branches)
      state.parts.push_back(branch.part->initial_state(batch, floats));
  }
  return state;
}

std::vector<Site*> Block::sites() {
  std::vector<Site*> all;
  for (Sublayer& sublayer : sublayers_) append(all, sublayer.sites());
  return all;
}

std::vector<Linear*> Block::linears() {
  std::vector<Linear*> all;
  for (Sublayer& sublayer : sublayers_) append(all, sublayer.linears());
  return all;
}

std::vector<FoldEdge> Block::fold_edges() {
  std::vector<FoldEdge> all;
  for (Sublayer& sublayer : sublayers_) append(all, sublayer.fold_edges());
  return all;
}

std::vector<Weight*> Block::weights() {
  std::vector<Weight*> all;
  for (Sublayer& sublayer : sublayers_) append(all, sublayer.norm_weights());
  for (Sublayer& sublayer : sublayers_) append(all, sublayer.part_weights());
  return all;
}

Site& Block::site(const std::string& name) {
  return site_named(name, sites(), prefix_);
}

MixingCost Block::mixing_cost(int64_t length) const {
  MixingCost cost;
  for (const Sublayer& sublayer : sublayers_) cost += sublayer.mixing_cost(length);
  return cost;
}

}  // namespace ptq
