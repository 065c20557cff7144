// Takes the rounding of activations into the weights that read them.
//
// Rounding adds noise e to a site's input x: of the same size in every direction, after a rotation, while x
// itself lives in few directions. A weight multiplies both alike, and where x is smaller than e it passes on
// mostly noise. Least squares knows the better weight: the one for which (x + e) W'^T is closest to x W^T,
// the Wiener filter W' = W E[x^T x^] E[x^^T x^]^-1 with x^ = x + e. It costs nothing at run time.
//
// Tiny example: one channel with x = +-1 and noise of variance 1/4: W' = W / (1 + 1/4), and the error falls
// from W^2 / 4 to W^2 / 5.
//
// The moments are estimated from a few thousand tokens, so directions that these hardly visit are drawn back
// to W by a ridge. Close to GPTAQ (arXiv 2504.02692), which corrects for inputs that earlier layers have
// changed; here it is the rounding of the site itself.
#include "ptq/step/compensation.h"

#include <ATen/Parallel.h>

#include "ptq/base/error.h"
#include "ptq/ops/ops.h"
#include "ptq/step/step.h"
#include "step/options.h"
#include "step/site_selection.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

// Decompositions give other bits for another number of threads.
class OneThread {
 public:
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = at::get_num_threads();
};

class CompensateStep : public Step {
 public:
  explicit CompensateStep(JsonFields& options)
      : sites_(options, "linear_inputs"),
        damping_(options.number("damping", 0.01)),
        samples_(options.integer("samples", 4096)) {
    options.finish();
    if (!(damping_ > 0 && damping_ <= 10)) {
      throw usage_error(options.path() + ".damping", std::to_string(damping_) + " is outside (0, 10]");
    }
    if (samples_ < 1 || samples_ > (1 << 20)) {
      throw usage_error(options.path() + ".samples", std::to_string(samples_) + " is outside 1 to 1048576");
    }
  }

  Needs needs(Block& block) const override {
    Needs needs;
    for (const std::string& name : sites_.transformable(block)) needs[name].samples = samples_;
    return needs;
  }

  void apply(Block& block, StepContext& context) const override {
    for (const std::string& name : sites_.transformable(block)) {
      const Site& site = block.site(name);
      if (site.quantizer.kind == ActivationQuantizer::Kind::kNone) continue;
      const Tensor& x = context.statistics.at(name).samples;
      const Tensor P = compensation(x, site.quantizer(x).dequantize(), damping_);
      for (Linear* linear : block.linears()) {
        if (linear->site != name || context.skip(linear->name)) continue;
        linear->weight.value = ops::linear(linear->weight.value, P.t().contiguous());
      }
    }
  }

 private:
  SiteSelection sites_;
  double damping_;
  int64_t samples_;
};

}  // namespace

Tensor compensation(const Tensor& x, const Tensor& x_rounded, double damping) {
  const Tensor columns = x_rounded.t().contiguous();
  const Tensor M = ops::linear(columns, columns).to(at::kDouble);             // X^^T X^
  const Tensor C = ops::linear(columns, x.t().contiguous()).to(at::kDouble);  // X^^T X
  const double ridge = std::max(damping * M.diagonal().mean().item<double>(), 1e-30);
  const OneThread guard;
  M.diagonal().add_(ridge);
  C.diagonal().add_(ridge);
  const auto [L, failed] = at::linalg_cholesky_ex(M);
  if (failed.item<int64_t>() != 0) {
    throw Error("compensation", "the second moment of the rounded activations is not positive definite",
                "a larger damping, or more samples");
  }
  // P = C^T M^-1, so P^T = M^-1 C.
  return at::cholesky_solve(C, L).t().to(at::kFloat).contiguous();
}

std::unique_ptr<Step> make_compensate_step(JsonFields& options) {
  return std::make_unique<CompensateStep>(options);
}

}  // namespace ptq
