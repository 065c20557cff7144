#include "ptq/model/block.h"

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

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

BlockState Block::initial_state(int64_t batch) const {
  BlockState state;
  for (const Sublayer& sublayer : sublayers_) {
    for (const Branch& branch : sublayer.branches) state.parts.push_back(branch.part->initial_state(batch));
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
  std::vector<std::string> names;
  for (Site* site : sites()) {
    if (site->name == name) return *site;
    names.push_back(site->name);
  }
  throw Error(prefix(), "no activation site \"" + name + "\"", suggest(name, names));
}

MixingCost Block::mixing_cost(int64_t length) const {
  MixingCost cost;
  for (const Sublayer& sublayer : sublayers_) {
    const MixingCost of_sublayer = sublayer.mixing_cost(length);
    cost.operations += of_sublayer.operations;
    cost.state_values += of_sublayer.state_values;
  }
  return cost;
}

}  // namespace ptq
