// Rotates the input of some linears by a Hadamard matrix, online.
//
// Outliers that sit in a few channels, or at a few tokens, set the scale for everything else. A rotation
// mixes every channel into every other with equal weight, so the rotated values are nearly Gaussian and their
// largest is a few standard deviations. The output of a Mamba scan has a kurtosis of 70 to 1400 before and 4
// to 8 after. Cost: n log2 n additions a token online; nothing in the weights' size. Reference: QuaRot (arXiv
// 2404.00456) for the idea, Quamba (arXiv 2410.13229, section 4.3) for the place. We choose Paley's matrices
// where the authors have tables.
#include "ptq/base/error.h"
#include "ptq/step/rewrites.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class HadamardStep : public Step {
 public:
  explicit HadamardStep(JsonFields& options) : site_(options.string("site", "ssm.output")) {
    options.finish();
  }

  Needs needs(Block& block) const override {
    block.site(site_);  // a site the block lacks is an error before any work
    return {};
  }

  void apply(Block& block, StepContext& context) const override {
    int64_t channels = 0;
    for (const Linear* linear : block.linears()) {
      if (linear->site == site_) channels = linear->weight.value.size(1);
    }
    if (channels == 0) {
      throw usage_error("hadamard",
                        "no linear reads the site \"" + site_ + "\": its rotation cannot be undone");
    }
    const Hadamard H = make_hadamard(channels);
    append_stage(block, site_, H, context.statistics);
    if (H.block != H.size) {
      context.remarks.push_back(
          {block.prefix() + "." + site_,
           "rotated in " + std::to_string(H.size / H.block) + " blocks of " + std::to_string(H.block),
           "there is no Hadamard matrix of size " + std::to_string(H.size) +
               " of the forms 2^k, 12 2^k, 20 2^k, 28 2^k"});
    }
  }

 private:
  std::string site_;
};

}  // namespace

std::unique_ptr<Step> make_hadamard_step(JsonFields& options) {
  return std::make_unique<HadamardStep>(options);
}

}  // namespace ptq
