// The programs that load what is exported, as data: which formats, of which architectures, with which schemes
// and shapes. `quantize list --runtimes` prints the table, `quantize plan --for` and a run with --for ask it
// before any work, and reports say by it where an output loads.
//
// The rows are facts of the versions named in them. A row claims only what was run, or read in the runtime's
// source: what is not in it may load, and is not known to.
//
// To add one: a function that returns its row in src/export/runtime_table.cpp, and its name there.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/base/json.h"
#include "ptq/export/formats.h"

namespace ptq {

// How the inputs of a linear are rounded.
enum class InputForm {
  kFloat,   // not at all
  kToken,   // a scale for each token
  kTensor,  // one scale for all
};

// What computes linears of one kind. A scale for each row of a weight is taken by all of them.
struct RuntimeKernel {
  const char* name;                  // with the device, where it needs a particular one
  std::vector<int> bits;             // of weights
  bool zeros = false;                // zero points of weights
  bool any_group = false;            // else `groups` alone
  std::vector<int64_t> groups = {};  // that share a scale
  std::vector<InputForm> inputs = {InputForm::kFloat};
  std::vector<int> input_bits = {};
  bool input_zeros = false;
  int64_t in_multiple = 1, out_multiple = 1;  // of which the sizes of a weight are multiples
};

struct RuntimeArchitecture {
  const char* name;                // a row of architectures()
  bool was_run = false;            // else the runtime's source says so
  const char* in_float = nullptr;  // a pattern of linears that must not be in codes; null: none
};

// One format that a runtime loads.
struct RuntimeFormat {
  const char* name;                                 // a row of formats()
  std::vector<RuntimeArchitecture> architectures;   // empty: all that the format holds
  std::vector<RuntimeKernel> kernels;               // empty: all that the format holds, by its types
  bool takes_experts = false;                       // linears of a mixture of experts in codes
  bool one_scheme_dequantized = false;              // StoredForm::dequantize needs one scheme
  std::map<std::string, const char*> refused = {};  // architecture -> why it is known not to load
  const char* note = "";                            // for people: what differs there
};

struct RuntimeEntry {
  const char* name;  // of --for
  const char* description;
  const char* version;  // that the row is true of
  const char* date;     // when that was looked at: "2026-11"
  std::vector<RuntimeFormat> formats;
};

const std::vector<RuntimeEntry>& runtimes();

// The row of that name; throws a usage Error with a suggestion.
const RuntimeEntry& find_runtime(const std::string& name);

// Whether a runtime loads what a format makes of a model.
struct RuntimeFit {
  const RuntimeFormat* format = nullptr;
  std::vector<std::string> reasons;  // why it does not; empty: it does
  std::vector<std::string> changes;  // to the run, that would help
  // Kernels that take a linear, "Marlin (CUDA), CPU" or a type of the format -> names of linears. What is
  // left in float is not listed.
  std::map<std::string, std::vector<std::string>> layers;

  bool loads() const { return reasons.empty(); }
};

// For each format of the runtime, in its order. From schemes, sites and shapes alone: the artifact may lie on
// the meta device. `method` is the name of the method, whose options changes are about. Cost: a few passes
// over the blocks a format.
std::vector<RuntimeFit> fits(const RuntimeEntry& runtime, const OpenModel& artifact,
                             const std::string& method);

}  // namespace ptq
