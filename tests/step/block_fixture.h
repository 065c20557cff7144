// A block of a toy model, taken through steps.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "ptq/calibration/stream.h"
#include "ptq/step/step.h"

namespace ptq {

inline bool skip_none(const std::string&) {
  return false;
}

inline std::unique_ptr<Step> make_step(const std::string& name, const Json& options) {
  JsonFields fields(options, name);
  return find_step(name, "test").make(fields);
}

struct NamedOptions {
  const char* name;  // of the step
  Json options = Json::object();
};

// The first block with its input and float output, and what steps said.
class BlockFixture {
 public:
  BlockFixture(const testing::TensorMap& tensors, const Json& config, int64_t rows) {
    const testing::Source source(tensors, config);
    const auto model = source.model();
    block = model->load_block(0);
    at::manual_seed(11);
    inputs = at::randn({rows, 16, model->hidden_size()});
    outputs = run_block(*block, inputs);
  }

  void measure(const Needs& needs) {
    const ObserverGuard guard(*block, needs, inputs.size(0));
    run_block(*block, inputs);
    statistics = guard.statistics();
    measured = statistics;
  }

  // Measures on all rows what the steps need, and `more`, before the first; then applies them in order.
  void apply_all(const std::vector<NamedOptions>& chain, const Needs& more = {},
                 const std::function<bool(const std::string&)>& skip = skip_none) {
    std::vector<std::unique_ptr<Step>> steps;
    Needs needs = more;
    for (const auto& [name, options] : chain) {
      steps.push_back(make_step(name, options));
      for (const auto& [site, wanted] : steps.back()->needs(*block)) needs[site].merge(wanted);
    }
    measure(needs);
    StepContext context{statistics, inputs, outputs, skip, remarks};
    context.corrections = &corrections;
    context.warnings = &warnings;
    for (size_t i = 0; i < steps.size(); ++i) {
      if (!rewritten && find_step(chain[i].name, "test").kind != StepKind::kRewrite)
        rewritten = block->clone();
      context.rewritten = rewritten.get();
      steps[i]->apply(*block, context);
    }
  }

  void apply(const char* name, const Json& options,
             const std::function<bool(const std::string&)>& skip = skip_none) {
    apply_all({{name, options}}, {}, skip);
  }

  // How much the block's output differs from the float one, relative to what the block adds.
  double change() const {
    return ((run_block(*block, inputs) - outputs).norm() / (outputs - inputs).norm()).item<double>();
  }

  Linear& linear(const std::string& end) {
    for (Linear* candidate : block->linears()) {
      if (candidate->name.ends_with(end)) return *candidate;
    }
    throw std::runtime_error("no linear " + end);
  }

  // The sites that linears read.
  std::vector<std::string> linear_inputs() {
    std::vector<std::string> names;
    for (const Site* site : block->sites()) {
      if (site->kind == "linear_input") names.push_back(site->name);
    }
    return names;
  }

  std::unique_ptr<Block> block;
  Tensor inputs, outputs;
  Statistics statistics;
  Statistics measured;               // the same before the steps were applied
  std::unique_ptr<Block> rewritten;  // the block before its first rounding
  std::map<std::string, CorrectionRow> corrections;
  std::vector<std::string> warnings;
  Remarks remarks;
};

class LlamaFixture : public BlockFixture {
 public:
  explicit LlamaFixture(const testing::ToyLlama& sizes = {}, int64_t rows = 4)
      : LlamaFixture(testing::toy_llama(sizes), rows) {}

 private:
  LlamaFixture(const testing::ToyModel& model, int64_t rows)
      : BlockFixture(model.tensors, model.config, rows) {}
};

class MambaFixture : public BlockFixture {
 public:
  explicit MambaFixture(const testing::ToyMamba& sizes = {}, int64_t rows = 4)
      : BlockFixture(testing::toy_mamba(sizes), {}, rows) {}
};

}  // namespace ptq
