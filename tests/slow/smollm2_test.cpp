// DuQuant on SmolLM2-135M, a Hugging Face directory in $PTQ_MODELS_DIR/smollm2-135m: quality and memory.
#include <cstdlib>

#include "cli/cli.h"

namespace ptq {
namespace {

class SmolLM2 : public Cli {
 protected:
  void SetUp() override {
    const char* models = std::getenv("PTQ_MODELS_DIR");
    model_path_ = std::string(models == nullptr ? "" : models) + "/smollm2-135m";
    if (models == nullptr || !std::filesystem::exists(model_path_)) {
      GTEST_SKIP() << "no model smollm2-135m in $PTQ_MODELS_DIR";
    }
  }
  Json quantized(const char* bits) const {
    run_well({model_path_, "--method", "duquant", "--bits", bits, "--calib", calib_, "-o", bits, "--quiet"});
    return run_json({"eval", bits, "--text", eval_, "--seq-len", "512", "--max-tokens", "10240", "--against",
                     model_path_})["against"];
  }
  std::string model_path_;
};

TEST_F(SmolLM2, FourBitsKeepMostOfTheModelWithinAGigabyte) {
  const Json against = quantized("w4a4");
  EXPECT_LT(against["mean_kl"].get<double>(), 0.6);
  EXPECT_GT(against["top1_agreement"].get<double>(), 0.5);
  EXPECT_LT(report("w4a4")["peak_rss_bytes"].get<int64_t>(), int64_t{1000} * 1000 * 1000);
}

TEST_F(SmolLM2, EightBitsAreNearlyFree) {
  EXPECT_LT(quantized("w8a8")["mean_kl"].get<double>(), 0.01);
}

}  // namespace
}  // namespace ptq
