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
#include "step/site_selection.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

class HadamardStep : public Step {
 public:
  explicit HadamardStep(JsonFields& options)
      : option_(options.path() + ".site"), site_(options.string("site", "ssm.output")) {
    options.finish();
  }

  void check(const std::vector<Sublayer*>& sublayers) const override {
    expect_site(sublayers, site_, option_);
  }

  Needs needs(Sublayer& sublayer) const override {
    if (has_site(sublayer)) channels(sublayer);  // a site that cannot be rotated is an error before any work
    return {};
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    if (!has_site(sublayer)) return;
    append_op(sublayer, site_, matrix(sublayer, context.remarks), context.statistics);
  }

  void plan(Sublayer& sublayer, PlanContext& context) const override {
    if (!has_site(sublayer)) return;
    place_op(sublayer, site_, matrix(sublayer, context.remarks));
  }

 private:
  bool has_site(Sublayer& sublayer) const { return sublayer.find_site(site_) != nullptr; }

  Hadamard matrix(Sublayer& sublayer, Remarks& remarks) const {
    const Hadamard H = make_hadamard(channels(sublayer));
    if (H.block == H.size) return H;
    remarks.fallbacks.push_back(
        {sublayer.prefix + "." + site_,
         "rotated in " + std::to_string(H.size / H.block) + " blocks of " + std::to_string(H.block),
         "there is no Hadamard matrix of size " + std::to_string(H.size) +
             " of the forms 2^k, 12 2^k, 20 2^k, 28 2^k"});
    return H;
  }

  int64_t channels(Sublayer& sublayer) const {
    const bool shared = sublayer.site(site_).shared;
    const int64_t channels = site_channels(sublayer, site_);
    if (channels == 0 || shared) {
      throw usage_error("hadamard",
                        (shared ? "more than linears read the site \"" : "no linear reads the site \"") +
                            site_ + "\": its rotation cannot be undone");
    }
    return channels;
  }

  std::string option_, site_;
};

}  // namespace

std::unique_ptr<Step> make_hadamard_step(JsonFields& options) {
  return std::make_unique<HadamardStep>(options);
}

}  // namespace ptq
