// What the float model and the rounded one have at the same sites, on the same text.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/calibration/site_sums.h"
#include "ptq/model/sublayer.h"

namespace ptq {

// Of one site: x in the float model, x^ in the rounded one as the site rounds it, over all tokens.
struct PairMoments {
  Tensor moment;  // E[x^ x^^T] [channels, channels] float64
  // E[(x - x^) x^^T] [channels, channels] float64; undefined for a site whose tokens a router chooses, for
  // the two models may choose others.
  Tensor shift;
};

// Runs `floats` on x and `rounded` on x_rounded, both [windows, length, d_model], batch by batch, as far as
// the last of `sites`. Sums are the same for any number of threads, and of processes, each of which gives its
// windows and gets the sums over those of all: `batches`.
std::map<std::string, PairMoments> pair_moments(const Sublayer& floats, const Tensor& x, Sublayer& rounded,
                                                const Tensor& x_rounded,
                                                const std::vector<std::string>& sites, const Batches& batches,
                                                Processes& processes);

}  // namespace ptq
