// Steps: what a recipe is made of.
//
// A rewrite (smooth, Hadamard) leaves what a sublayer computes as it was, so that rounding it hurts less. A
// rounding turns floats into codes and scales. A correction adds a term that takes back some of the error.
// Each step says what it needs to know about a sublayer's activations, and is then applied to one sublayer at
// a time; one that has not the sites that the step works on is passed over. The mathematics of steps is in
// solve/.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/calibration/statistics.h"
#include "ptq/comm/processes.h"
#include "ptq/model/model.h"
#include "ptq/report/report.h"

namespace ptq {

enum class StepKind { kRewrite, kWeightRounding, kActivationRounding, kCorrection };

// "rewrite", "rounding of weights", "rounding of activations", "correction".
const char* step_kind_name(StepKind kind);

// The reason of a fallback: SiteStatistics::all_zero().
inline constexpr const char* kNoActivity = "all its calibration activations are zero";

// What steps have to say about a sublayer, as the report lists it.
struct Remarks {
  std::vector<Remark> fallbacks;  // not done as asked
  std::vector<Remark> decisions;  // asked for by an option or by the architecture's table
};

// What a step may look at, besides the sublayer. All processes of a run apply a step alike, and all have the
// same statistics.
struct StepContext {
  Statistics& statistics;  // what needs() asked for; a rewrite takes along what it changes
  // Held-out windows, for choices: the sublayer's input and its float output [windows, length, d_model]. The
  // first process has them, and tells the others what it chose.
  const Tensor& inputs;
  const Tensor& outputs;
  const std::function<bool(const std::string& linear)>& skip;  // --skip: layers to leave in float
  Remarks& remarks;
  // --seed of the run: what a step draws depends on it, on the step's options and the site.
  uint64_t seed = 0;
  // The sublayer after its rewrites and before its roundings; null while it is rewritten.
  Sublayer* rewritten = nullptr;
  // What it is rounded to: that, or its weights with error feedback.
  Sublayer* target = nullptr;
  std::map<std::string, CorrectionRow>* corrections = nullptr;  // by linear: what a correction did
  std::vector<std::string>* warnings = nullptr;                 // each different one is said once a run
  // Of a rounding of weights: the sites whose readers are to be rounded now; null: all.
  const std::vector<std::string>* sites = nullptr;
  Processes& processes = one_process();
};

// What a step costs on one sublayer, besides the passes that its needs() cause: for `quantize plan`.
struct StepCost {
  double operations = 0;  // of floating point; at most, where a search may end early
  int64_t bytes = 0;      // of working memory at a time, besides the block and the statistics
  double forwards = 0;    // of the sublayer over `forward_windows` held-out windows; at most
  int64_t forward_windows = 0;
};

// What a step may look at when nothing is to be done yet.
struct PlanContext {
  const std::function<bool(const std::string& linear)>& skip;
  Remarks& remarks;                    // those that do not depend on values
  std::vector<std::string>& warnings;  // the same
  int64_t calibration_tokens = 0;
  StepCost cost = {};    // of this step
  bool at_most = false;  // set where a choice by values decides what is stored
};

class Step {
 public:
  virtual ~Step() = default;
  // Throws a usage Error if no sublayer of a model has what the options name: a site, queries and keys.
  virtual void check(const std::vector<Sublayer*>&) const {}
  // Throws a usage Error if the step cannot be applied to the sublayer.
  virtual Needs needs(Sublayer& sublayer) const = 0;
  // Leaves the sublayer with the schemes, quantizers, transforms and shapes that apply() would leave it with,
  // and gives the same remarks and errors, from shapes alone: its tensors are on the meta device.
  // Where apply() chooses by values, the choice that takes more bytes.
  virtual void plan(Sublayer& sublayer, PlanContext& context) const = 0;
  virtual void apply(Sublayer& sublayer, StepContext& context) const = 0;
  // Of a rounding of weights: the linears that it will round, if `skip` keeps no more of them in float.
  virtual std::vector<Linear*> linears_to_round(
      Sublayer&, const std::function<bool(const std::string&)>& /*skip*/) const {
    return {};
  }
  // True if the options ask for what sites make of activations, so that a step before has to give them
  // quantizers.
  virtual bool reads_rounded_activations() const { return false; }
  // Shell patterns of linears that the options name. One that matches none is a mistake.
  virtual std::vector<std::string> patterns() const { return {}; }
};

// One kind of step. `quantize list` prints the table; nothing else in the program names a step.
struct StepEntry {
  const char* name;
  StepKind kind;
  const char* description;
  // Reads the options; throws a usage Error for an unknown one or a value that is not allowed.
  std::unique_ptr<Step> (*make)(JsonFields& options);
};

const std::vector<StepEntry>& steps();

// The row of that name; throws a usage Error with a suggestion.
const StepEntry& find_step(const std::string& name, const std::string& where);

}  // namespace ptq
