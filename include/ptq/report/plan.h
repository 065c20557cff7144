// What a run would do, as headers tell it: the rows of `quantize plan`, as JSON or as text. No mathematics,
// no torch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/report/report.h"

namespace ptq {

struct PlanRow {
  std::string name;  // as the source names it
  std::string role;
  std::vector<int64_t> shape;
  std::string dtype;  // of the source
  bool rounded = false;
  double bits = 0;          // of a code; the float's width if it is kept
  std::string granularity;  // "tensor", "channel", "group"; empty if float
  std::optional<int64_t> group;
  int64_t bytes = 0;  // of all tensors it is stored as
};

struct PlanSite {
  std::string name;
  std::string quantizer;  // "static", "dynamic", "none"
  std::optional<int64_t> bits;
  std::string transform;  // "hadamard(64), permutation"; empty: none
};

struct Plan {
  Json source;       // of the report, without checksums
  Json recipe;       // of the report
  Json calibration;  // of the report; null without data
  std::vector<PlanRow> tensors;
  std::vector<PlanSite> sites;
  std::string output;
  int64_t source_bytes = 0;
  int64_t output_bytes = 0;  // of the weight files
  double bits_per_weight = 0;
  bool at_most = false;  // choices by values may store less than output_bytes
  // Name -> bytes; nothing for report.json, whose numbers a run measures.
  std::map<std::string, std::optional<int64_t>> files;
  // Estimated. Of several processes that share the run: of the one that has most.
  int64_t processes = 1;
  int64_t peak_memory_bytes = 0;
  bool hidden_states_in_file = false;
  double operations = 0;          // of floating point
  int64_t disk_bytes = 0;         // that the run needs at once, the output included
  std::vector<Remark> fallbacks;  // as in the report
  std::vector<Remark> decisions;
  std::vector<std::string> notes;  // how the checkpoint is read
  std::vector<std::string> warnings;
};

// Absent values are null.
Json to_json(const Plan& plan);

// A table in which tensors that differ only in numbers of their names are one row, and what the run costs.
// Ends in a newline.
std::string plan_text(const Plan& plan);

}  // namespace ptq
