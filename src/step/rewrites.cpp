#include "ptq/step/rewrites.h"

#include "ptq/base/error.h"

namespace ptq {
namespace {

// Rotations of one site lie in one tensor, so they have one size.
void check_rotation(const Site& site, const TransformOp& stage) {
  const auto* rotation = std::get_if<BlockRotation>(&stage);
  if (rotation == nullptr) return;
  for (const TransformOp& other : site.transform.stages) {
    const auto* before = std::get_if<BlockRotation>(&other);
    if (before != nullptr && before->R.size(0) != rotation->R.size(0)) {
      throw usage_error(site.name,
                        "rotations in blocks of " + std::to_string(before->R.size(0)) + " and of " +
                            std::to_string(rotation->R.size(0)) + " at one site",
                        "the same block for both");
    }
  }
}

void carry(Statistics& statistics, const std::string& site, const std::function<Tensor(const Tensor&)>& map) {
  if (const auto found = statistics.find(site); found != statistics.end()) found->second.carry(map);
}

}  // namespace

void place_op(Sublayer& sublayer, const std::string& name, const TransformOp& stage) {
  Site& site = sublayer.site(name);
  check_rotation(site, stage);
  const Transform alone{{stage}};
  for (const Linear* linear : sublayer.linears()) {
    if (linear->site != name) continue;
    const int64_t channels = linear->weight.size(1);
    if (!alone.fits(channels)) {
      throw usage_error(sublayer.prefix + "." + name, transform_text(alone) + " does not fit its " +
                                                          std::to_string(channels) + " channels");
    }
  }
  site.transform.stages.push_back(stage);
}

void append_op(Sublayer& sublayer, const std::string& name, const TransformOp& stage,
               Statistics& statistics) {
  place_op(sublayer, name, stage);
  for (Linear* linear : sublayer.linears()) {
    if (linear->site == name) linear->weight.set(apply_op(stage, linear->weight.values()));
  }
  carry(statistics, name, [stage](const Tensor& rows) { return apply_op(stage, rows); });
}

Tensor smoothing_scales(const Tensor& activation_abs_max, const Tensor& weight_abs_max, double alpha,
                        double floor) {
  const Tensor a = activation_abs_max.clamp_min(1e-5);
  const Tensor w = weight_abs_max.clamp_min(1e-5);
  return (a.pow(alpha) / w.pow(1 - alpha)).clamp_min(floor);
}

Tensor share_scales(const FoldEdge& edge, const Tensor& s) {
  if (!edge.row_of.defined()) return s;
  const Tensor row_of = edge.row_of.to(s.device());
  const int64_t rows = row_of.max().item<int64_t>() + 1;
  const Tensor largest = at::zeros({rows}, s.options()).scatter_reduce(0, row_of, s, "amax", false);
  return largest.index_select(0, row_of);
}

void smooth_edge(Sublayer& sublayer, const FoldEdge& edge, const Tensor& s, Statistics& statistics) {
  fold_scales(edge, s);
  for (const std::string& name : edge.sites) {
    Site& site = sublayer.site(name);
    site.smooth = site.smooth.defined() ? site.smooth * s : s;
    carry(statistics, name, [s](const Tensor& rows) { return rows / s; });
  }
}

int64_t power_of_two_block(int64_t n, int64_t most) {
  int64_t block = 1;
  while (block * 2 <= most && n % (block * 2) == 0) block *= 2;
  return block;
}

}  // namespace ptq
