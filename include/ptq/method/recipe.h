// What a run is to do, as data: the ordered steps with their options, and everything else that decides the
// output.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ptq/base/json.h"

namespace ptq {

struct StepConfig {
  std::string name;
  Json options;  // object
};

// Whether weights are rounded for the inputs that the rounded model before them gives
// (solve/error_feedback.h).
struct Feedback {
  double strength = 0;    // 0 (off) to 1
  double damping = 0.01;  // of the mean of the second moment's diagonal

  bool is_on() const { return strength > 0; }
};

// What "on" stands for.
inline constexpr Feedback kFeedbackOn{.strength = 0.5};

struct Recipe {
  std::string method;                 // what it calls itself: "quamba"
  std::string bits;                   // "w8a8"; empty if the method is given by its base
  std::string base;                   // "mxint4": the weight format, of methods that correct one
  std::vector<std::string> families;  // of architectures it is for; empty: all
  std::string purpose;                // "selective state-space models (Mamba)", for messages
  std::vector<StepConfig> steps;      // run in this order
  std::vector<std::string> skip;      // shell patterns of layers to leave in float
  std::string embedding = "float";    // "float" | "int8"
  Feedback feedback;
  int64_t samples = 128;  // calibration windows
  int64_t seq_len = 512;  // tokens a row

  // The long form: what --print-recipe prints, config.json and report.json hold, and read_recipe() reads.
  Json to_json() const;
};

// An option of a method, which `--set METHOD.NAME=VALUE` changes.
struct MethodOption {
  const char* name;
  Json value;          // the default
  const char* values;  // what it may be, such as "auto | 0 to 1"
  const char* effect;
};

// One shipped method: a name and its bits -> a recipe.
struct MethodEntry {
  const char* name;
  const char* description;
  std::vector<std::string> bits;      // supported, the default first
  std::vector<std::string> families;  // of architectures; empty: all
  const char* purpose;
  int64_t samples;
  int64_t seq_len;
  // The steps for one of `bits`. `options` are the method's own ("quamba": {...}); every one must be read.
  std::vector<StepConfig> (*steps)(const std::string& bits, JsonFields& options);
  std::vector<MethodOption> (*options)();
  // `bits` are weight formats, given by --base: more than those listed exist.
  bool by_base = false;

  Json default_options() const;  // {name: default}
};

const std::vector<MethodEntry>& methods();

// The row of that name; throws a usage Error, naming `where`, with a suggestion.
const MethodEntry& find_method(const std::string& name, const std::string& where = "--method");

// What --method can be for a model of those families (of any, if there are none), the methods made for it
// first: the hint where none is given.
std::string methods_for(const std::vector<std::string>& families);

struct RecipeOptions {
  std::string file;                  // --recipe
  std::string method;                // --method
  std::string bits;                  // --bits
  std::string base;                  // --base
  std::optional<int64_t> rank;       // --rank
  std::optional<double> target_bpw;  // --target-bpw
  std::vector<std::string> sets;     // --set PATH=VALUE
  std::vector<std::string> skip;
  std::string embedding;
  std::vector<std::string> families;  // of the model, if it is known: for the hint where no method is given
};

// The recipe of a run: the file's, or the method's with its defaults; then --set, in order; then --bits or
// --base, --rank, --target-bpw, --skip, --embedding. A path that begins with the method's name sets one of
// its options ("quamba.percentile=auto"), any other a field of the long form ("steps.1.site=z",
// "seq_len=256"). VALUE is JSON, or else a string. Throws a usage Error for a name, path or value that does
// not exist.
Recipe resolve_recipe(const RecipeOptions& options);

// The long form, or the short one without steps, which is expanded as --method would:
//   {"method": "quamba", "bits": "w8a8", "quamba": {"percentile": 0.9999}, "samples": 64}
// `where` names it in errors. Strict: unknown fields, options and steps are usage errors, and so is an order
// of steps in which one of them could not do what it is for: a rewrite after a rounding, weights rounded
// twice, a correction of what is not rounded, a moment of rounded activations where none are.
Recipe read_recipe(const Json& json, const std::string& where);

}  // namespace ptq
