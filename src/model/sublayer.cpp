#include "ptq/model/sublayer.h"

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

// "These sites read that norm", for each norm of the sublayer that any site reads directly.
void add_norm_edges(Sublayer& sublayer, std::vector<FoldEdge>& edges) {
  for (size_t n = 0; n < sublayer.norms.size(); ++n) {
    FoldEdge edge;
    edge.producers = sublayer.norms[n].producers();
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

// What `of(part)` lists, for all parts.
template <typename Of>
auto of_parts(const std::vector<Branch>& branches, const Of& of) {
  decltype(of(*branches.front().part)) all;
  for (const Branch& branch : branches) {
    for (auto& item : of(*branch.part)) all.push_back(std::move(item));
  }
  return all;
}

}  // namespace

Tensor Norm::operator()(const Tensor& x) const {
  const Tensor factor = offset == 0 ? gain.values() : gain.values() + offset;
  if (!centred) return ops::rms_norm(x, factor, eps);
  return at::layer_norm(x, factor.sizes(), factor, bias ? bias->values() : Tensor(), eps);
}

std::vector<Weight*> Norm::weights() {
  if (!bias) return {&gain};
  return {&gain, &*bias};
}

std::vector<FoldEdge::Rows> Norm::producers() {
  std::vector<FoldEdge::Rows> rows = {{.weight = &gain, .offset = offset}};
  if (bias) rows.push_back({&*bias});
  return rows;
}

Sublayer Sublayer::clone() const {
  Sublayer copy;
  copy.prefix = prefix;
  copy.norms = norms;
  copy.post = post;
  copy.residual_scale = residual_scale;
  copy.closing = closing;
  for (const Branch& branch : branches)
    copy.branches.push_back({branch.part->clone(), branch.norm, branch.in_scale, branch.out_scale});
  return copy;
}

Tensor Sublayer::forward(const Tensor& hidden, PartState* states, Observer* observer) const {
  std::vector<Tensor> normed;
  for (const Norm& norm : norms) normed.push_back(norm(hidden));
  Tensor sum;
  for (size_t b = 0; b < branches.size(); ++b) {
    const Branch& branch = branches[b];
    Tensor x = branch.norm < 0 ? hidden : normed.at(static_cast<size_t>(branch.norm));
    if (branch.in_scale != 1) x = x * branch.in_scale;
    Tensor y = branch.part->forward(x, states == nullptr ? nullptr : &states[b], observer);
    if (branch.out_scale != 1) y.mul_(branch.out_scale);
    sum = sum.defined() ? sum.add_(y) : y;
  }
  if (post) sum = (*post)(sum);
  if (residual_scale != 1) sum.mul_(residual_scale);
  sum.add_(hidden);
  return closing ? (*closing)(sum) : sum;
}

void Sublayer::prepare() {
  for (Linear* linear : linears()) linear->prepare(site(linear->site).quantizer.scheme());
  keep_values();
}

void Sublayer::seal(const Compute& compute) {
  for (Linear* linear : linears()) linear->seal(site(linear->site).quantizer.scheme(), compute);
  keep_values();
  for (Branch& branch : branches) branch.part->seal();
}

// Those of small weights.
void Sublayer::keep_values() {
  for (Weight* weight : part_weights()) {
    if (weight->role != Role::kLinear && !weight->device().is_meta()) weight->keep_values();
  }
}

std::vector<Site*> Sublayer::sites() {
  return of_parts(branches, [](Part& part) { return part.sites(); });
}

std::vector<Linear*> Sublayer::linears() {
  return of_parts(branches, [](Part& part) { return part.linears(); });
}

std::vector<Weight*> Sublayer::norm_weights() {
  std::vector<Weight*> all;
  const auto add = [&all](Norm& norm) {
    for (Weight* weight : norm.weights()) all.push_back(weight);
  };
  for (Norm& norm : norms) add(norm);
  if (post) add(*post);
  if (closing) add(*closing);
  return all;
}

std::vector<Weight*> Sublayer::part_weights() {
  return of_parts(branches, [](Part& part) { return part.weights(); });
}

std::vector<Weight*> Sublayer::weights() {
  std::vector<Weight*> all = norm_weights();
  for (Weight* weight : part_weights()) all.push_back(weight);
  return all;
}

std::vector<FoldEdge> Sublayer::fold_edges() {
  std::vector<FoldEdge> all;
  add_norm_edges(*this, all);
  for (FoldEdge& edge : of_parts(branches, [](Part& part) { return part.fold_edges(); }))
    all.push_back(std::move(edge));
  return all;
}

std::vector<ProductPair> Sublayer::product_pairs() {
  return of_parts(branches, [](Part& part) { return part.product_pairs(); });
}

MixingCost Sublayer::mixing_cost(int64_t length) const {
  MixingCost cost;
  for (const Branch& branch : branches) cost += branch.part->mixing_cost(length);
  return cost;
}

Site* Sublayer::find_site(const std::string& name) {
  for (Site* site : sites()) {
    if (site->name == name) return site;
  }
  return nullptr;
}

Site& Sublayer::site(const std::string& name) {
  return site_named(name, sites(), prefix);
}

}  // namespace ptq
