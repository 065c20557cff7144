// A layer whose inputs are all zero stops no run: it is rounded plainly, and the report says so.
#include <algorithm>

#include "../base/expect_error.h"
#include "workbench.h"

namespace ptq {
namespace {

struct Setting {
  const char* architecture;
  const char* method;
  const char* bits;
  const char* what;  // the fallback's
  std::vector<std::string> sets = {};

  friend void PrintTo(const Setting& setting, std::ostream* out) {
    *out << setting.architecture << " " << setting.method << " " << setting.bits;
  }
};

const Setting kSettings[] = {
    {"llama", "gptq", "w4a16", "rounded to nearest"},
    {"llama", "gptq", "w8a8", "rounded to nearest", {"gptq.group=0"}},
    {"llama", "duquant", "w4a4", "rounded to nearest"},
    {"llama", "duquant", "w4a4", "rotated at random", {"duquant.rotation=greedy", "duquant.steps=4"}},
    {"llama", "duquant", "w4a4", "rotated at random", {"duquant.rotation=auto", "duquant.steps=4"}},
    {"llama", "duquant", "w4a4", "rounded without clips", {"duquant.rounding=rtn", "duquant.clip=search"}},
    {"llama", "duquant", "w4a4", "rounded to nearest", {"duquant.moment=rounded"}},
    {"llama", "smoothquant", "w8a8", "not smoothed"},
    {"llama", "qera", "mxint4", "left without a correction"},
    {"llama", "qera", "mxint4", "left without a correction", {"qera.target_bpw=6"}},
    {"llama", "qera", "gptq:int4-g128", "rounded to nearest"},
    {"mamba", "gptq", "w4a16", "rounded to nearest"},
    {"mamba", "quamba", "w8a8", "the smallest scale was used"},
    {"mamba", "qera", "mxint4", "left without a correction"},
    {"mamba2", "gptq", "w4a16", "rounded to nearest"},
    {"mamba2", "quamba", "w8a8", "the smallest scale was used"},
    {"mamba2", "qera", "mxint4", "left without a correction"},
};

class ZeroInputs : public ::testing::TestWithParam<Setting> {};

TEST_P(ZeroInputs, AreAFallbackOfTheirLayerAlone) {
  const Setting& setting = GetParam();
  const bool mamba = std::string(setting.architecture).starts_with("mamba");
  const std::string norm =
      mamba ? "backbone.layers.1.norm.weight" : "model.layers.1.post_attention_layernorm.weight";
  const std::string site = mamba ? "backbone.layers.1.mixer" : "model.layers.1";
  ToyModel toy = toy_for(setting.architecture).make(0);
  toy.tensors.at(norm).zero_();
  RecipeOptions options;
  options.method = setting.method;
  (find_method(setting.method).by_base ? options.base : options.bits) = setting.bits;
  options.sets = setting.sets;
  options.sets.insert(options.sets.end(), {"samples=8", "seq_len=16"});
  const Workbench bench(toy);
  const Report report = bench.run("out", resolve_recipe(options));
  EXPECT_TRUE(std::any_of(report.fallbacks.begin(), report.fallbacks.end(), [&](const Remark& row) {
    return row.what == setting.what && row.why == "all its calibration activations are zero";
  }));
  for (const Remark& row : report.fallbacks) {
    const bool zero = row.why == "all its calibration activations are zero";
    EXPECT_TRUE(!zero || row.where.starts_with(site)) << row.where;
  }
  for (const LayerRow& row : report.layers) {
    if (row.role != "linear" || row.bits > 8) continue;
    EXPECT_GT(row.weight_sqnr_db.value(), 9) << row.name;  // no weight is lost
  }
  const double least = std::string(setting.bits).starts_with("w4a4") ? 4 : 6;
  EXPECT_GT(sqnr_of_logits(bench, "out"), least);
}

INSTANTIATE_TEST_SUITE_P(Settings, ZeroInputs, ::testing::ValuesIn(kSettings), [](const auto& setting) {
  return std::string(setting.param.architecture) + "_" + setting.param.method + "_" +
         std::to_string(setting.index);
});

TEST(NanInputs, StayAnError) {
  ToyModel toy = testing::toy_llama(kLlamaSizes[0]);
  toy.tensors.at("model.layers.0.mlp.up_proj.weight").fill_(3e38);
  const Workbench bench(toy);
  EXPECT_ERROR(bench.run("out", toy_recipe("gptq", "w4a16")), ExitCode::kFailed, "NaN or infinite");
}

}  // namespace
}  // namespace ptq
