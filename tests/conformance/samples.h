// Runs of the program's library on the sample models.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../base/temp_directory.h"
#include "ptq/method/recipe.h"
#include "ptq/model/model.h"
#include "ptq/pipeline/plan.h"
#include "ptq/pipeline/run.h"

namespace ptq {

struct SampleRun {
  std::string model;  // in tests/data
  std::string family;
  std::string method, bits;
  std::vector<std::string> sets = {};
  std::vector<std::string> skip = {};
  std::string embedding = "";
  int64_t max_shard_bytes = int64_t{5} << 30;

  std::string name() const {
    std::string text = family + "_" + method + "_";
    for (const char c : bits) text += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
    for (const std::string& set : sets) {
      for (const char c : "_" + set) text += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
    }
    return text + (skip.empty() ? "" : "_skip") + (embedding.empty() ? "" : "_" + embedding) +
           (max_shard_bytes < 1'000'000 ? "_shards" : "");
  }
  std::string model_path() const { return std::string(PTQ_TEST_DIR "/../data/") + model; }

  Recipe recipe() const {
    RecipeOptions options;
    options.method = method;
    (find_method(method).by_base ? options.base : options.bits) = bits;
    options.sets = sets;
    options.sets.insert(options.sets.end(), {"samples=8", "seq_len=32"});
    options.skip = skip;
    options.embedding = embedding;
    return resolve_recipe(options);
  }
  RunOptions options(const std::string& output) const {
    RunOptions options;
    options.model_path = model_path();
    options.output = output;
    options.calibration = {PTQ_TEST_DIR "/../data/shakespeare-calib.txt"};
    options.max_shard_bytes = max_shard_bytes;
    options.program = {{"name", "quantize"}, {"version", "0"}, {"git", ""},
                       {"torch", ""},        {"isa", ""},      {"threads", 1}};
    return options;
  }
  Report run(const std::string& output) const {
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    return ptq::run(options(output), recipe(), progress);
  }
  Plan plan(const std::string& output) const {
    Progress progress(std::make_shared<StatusLine>(), ProgressStyle::kQuiet);
    return plan_run(options(output), recipe(), progress);
  }

  friend void PrintTo(const SampleRun& sample, std::ostream* out) { *out << sample.name(); }
};

// Every method at every bit width on the sample model of each family it is for, and some of what options
// change.
inline std::vector<SampleRun> sample_runs() {
  const std::string mamba = "mamba-1m/model.pt", llama = "llama-1m";
  std::vector<SampleRun> runs = {
      {mamba, "ssm", "quamba", "w8a8", {"quamba.activations=dynamic", "quamba.weights=channel"}},
      {mamba, "ssm", "rtn", "w4a16", {"rtn.group=24"}, {"*.0.mixer.out_proj"}, "int8", 300'000},
      {llama,
       "transformer",
       "duquant",
       "w4a4",
       {"duquant.rotation=greedy", "duquant.steps=4"},
       {},
       "int8",
       200'000},
      {llama,
       "transformer",
       "duquant",
       "w6a6",
       {"duquant.signs=random", "duquant.rounding=rtn"},
       {"*.1.mlp.*"}},
      {llama,
       "transformer",
       "duquant",
       "w4a4",
       {"duquant.rounding=rtn", "duquant.clip=1", "duquant.group=32"}},
  };
  for (const auto& [model, family] : {std::pair(mamba, "ssm"), std::pair(llama, "transformer")}) {
    for (const MethodEntry& method : methods()) {
      const auto& families = method.families;
      if (!families.empty() && std::find(families.begin(), families.end(), family) == families.end())
        continue;
      // At eight rows there are too few tokens for corrections, which is a warning and no less a run.
      for (const std::string& bits : method.bits) runs.push_back({model, family, method.name, bits});
    }
  }
  return runs;
}

}  // namespace ptq
