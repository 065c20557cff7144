// A block of a toy model, taken through steps.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/toy_llama.h"
#include "../support/toy_mamba2.h"
#include "../support/toy_source.h"
#include "ptq/calibration/site_sums.h"
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
  BlockFixture(const testing::TensorMap& tensors, const Json& config, int64_t windows) {
    const testing::Source source(tensors, config);
    const auto model = source.model();
    block = model->load_block(0);
    at::manual_seed(11);
    run_on(at::randn({windows, 16, model->hidden_size()}));
  }

  // REQUIRES: the block is float.
  void run_on(const Tensor& x) {
    inputs = x;
    hidden = {x};
    for (const Sublayer& sublayer : block->sublayers()) hidden.push_back(outputs_of(sublayer, hidden.back()));
    outputs = hidden.back();
  }

  // What a step needs to know of all sublayers.
  Needs needs(const char* name, const Json& options) {
    Needs all;
    add_needs(*make_step(name, options), all);
    return all;
  }

  void check(const char* name, const Json& options) {
    std::vector<Sublayer*> sublayers;
    for (Sublayer& sublayer : block->sublayers()) sublayers.push_back(&sublayer);
    make_step(name, options)->check(sublayers);
  }

  // Each sublayer on what arrives at the float one.
  void measure(const Needs& needs) {
    StatisticsObserver observer(block->prefix(), needs, Batches::of(inputs.size(0), inputs.size(1)));
    for (size_t i = 0; i < block->sublayers().size(); ++i)
      observe(block->sublayers()[i], hidden[i], observer);
    statistics = observer.finish();
    measured = statistics;
  }

  // Measures on all windows what the steps need, and `more`, before the first; then applies them in order,
  // sublayer by sublayer.
  void apply_all(const std::vector<NamedOptions>& chain, const Needs& more = {},
                 const std::function<bool(const std::string&)>& skip = skip_none) {
    std::vector<std::unique_ptr<Step>> steps;
    Needs needs = more;
    for (const auto& [name, options] : chain) {
      check(name, options);
      steps.push_back(make_step(name, options));
      add_needs(*steps.back(), needs);
    }
    measure(needs);
    for (size_t i = 0; i < block->sublayers().size(); ++i) {
      Sublayer& sublayer = block->sublayers()[i];
      StepContext context{statistics, hidden[i], hidden[i + 1], skip, remarks};
      context.corrections = &corrections;
      context.warnings = &warnings;
      for (size_t k = 0; k < steps.size(); ++k) {
        const bool rewrites = find_step(chain[k].name, "test").kind == StepKind::kRewrite;
        if (!rewrites && rewritten.size() == i) rewritten.push_back(sublayer.clone());
        context.rewritten = context.target = rewritten.size() > i ? &rewritten[i] : nullptr;
        steps[k]->apply(sublayer, context);
      }
    }
  }

  void apply(const char* name, const Json& options,
             const std::function<bool(const std::string&)>& skip = skip_none) {
    apply_all({{name, options}}, {}, skip);
  }

  // How much the block's output differs from the float one, relative to what the block adds.
  double change() const {
    return ((outputs_of(*block, inputs) - outputs).norm() / (outputs - inputs).norm()).item<double>();
  }

  // Of a block that has one.
  Sublayer& sublayer() { return block->sublayers().at(0); }

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
  Tensor inputs, outputs;           // of the float block
  std::vector<Tensor> hidden;       // what arrives at each float sublayer, and the output
  Statistics statistics;            // of the sites of all sublayers
  Statistics measured;              // the same before the steps were applied
  std::vector<Sublayer> rewritten;  // before their first rounding
  std::map<std::string, CorrectionRow> corrections;
  std::vector<std::string> warnings;
  Remarks remarks;

 private:
  void add_needs(const Step& step, Needs& all) {
    for (Sublayer& sublayer : block->sublayers()) {
      for (const auto& [site, wanted] : step.needs(sublayer)) all[site].merge(wanted);
    }
  }
};

class LlamaFixture : public BlockFixture {
 public:
  explicit LlamaFixture(const testing::ToyLlama& sizes = {}, int64_t windows = 4)
      : LlamaFixture(testing::toy_llama(sizes), windows) {}

 private:
  LlamaFixture(const testing::ToyModel& model, int64_t windows)
      : BlockFixture(model.tensors, model.config, windows) {}
};

class MambaFixture : public BlockFixture {
 public:
  explicit MambaFixture(const testing::ToyMamba& sizes = {}, int64_t windows = 4)
      : BlockFixture(testing::toy_mamba(sizes), {}, windows) {}
};

class Mamba2Fixture : public BlockFixture {
 public:
  explicit Mamba2Fixture(const testing::ToyMamba2& sizes = {}, int64_t windows = 4)
      : Mamba2Fixture(testing::toy_mamba2(sizes), windows) {}

 private:
  Mamba2Fixture(const testing::ToyModel& model, int64_t windows)
      : BlockFixture(model.tensors, model.config, windows) {}
};

}  // namespace ptq
