// Output formats: our own and those of other programs. `quantize list` prints the table, `quantize export`
// writes by it, and the commands that run a model open by it. Nothing else in the program names a format.
//
// To add one: src/export/<name>.cpp with a function that returns its row, that function's name in
// src/export/rows.h and src/export/formats.cpp, and the file in src/export/CMakeLists.txt.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/base/json.h"
#include "ptq/codec/activation.h"
#include "ptq/codec/scheme.h"

namespace ptq {

// What `quantize export` takes as --NAME for a format.
struct FormatOption {
  const char* name;
  const char* type;                 // what stands for its value in the help: "DTYPE"
  const char* description;          // for the help
  const char* meaning;              // what a value is: "a dtype of a base"
  std::vector<std::string> values;  // those it can have, the default first; empty: any text, by default none
};

// Where to write, and how.
struct ExportTarget {
  std::string output;                          // does not exist yet
  std::map<std::string, std::string> options;  // every option of the format, by name
};

// What was written.
struct ExportResult {
  Json json;         // an object: what --json prints beside "format"
  std::string text;  // for people: lines
};

// A linear as a format stores it, as far as the programs that load it care.
struct StoredLinear {
  std::string name;                             // without ".weight"
  std::vector<int64_t> shape;                   // [out, in]
  bool is_expert = false;                       // reads a part of the tokens only
  std::optional<WeightScheme> weights = {};     // none: no codes
  std::optional<ActivationScheme> inputs = {};  // none: floats
  std::string type = {};                        // in a format with types of its own: "Q4_0"; else empty
};

// What a format makes of a model.
struct StoredForm {
  std::vector<StoredLinear> linears;  // of the blocks
  bool dequantize = false;            // transformers makes floats of the weights, by one scheme for all
};

struct FormatEntry {
  const char* name;         // of --format
  const char* description;  // of what is written

  // What export needs to know. `output` is what -o names, for the help; `suffix` ends the default name.
  const char* output;
  const char* suffix;
  std::vector<FormatOption> options;
  // Why the artifact cannot be written in this format, as the what() of an Error; "" if it can, as far as
  // schemes and shapes tell. The artifact may lie on the meta device.
  std::string (*why_not)(const OpenModel& artifact, const ExportTarget& target);
  // Null: nothing is exported in this format, and why_not() says why. Throws Error for what values show.
  // REQUIRES: why_not() is "" and nothing is at target.output. The output appears whole or not at all.
  ExportResult (*write)(const OpenModel& artifact, const ExportTarget& target);

  // Whether what lies at `path`, which may be anything, says that it is in this format. Null if `open` is.
  bool (*is_at)(const std::string& path);
  // Throws Error, as open_model() does. Null, with the reason in `why_not_opened`: what is written cannot be
  // run, or it is a float checkpoint, which needs no row to be opened.
  OpenModel (*open)(const std::string& path, const CheckpointOptions& options, at::Device device);
  const char* why_not_opened;

  // Whether a float checkpoint is exported too, and not only an artifact.
  bool exports_floats = false;
  // What a tensor of what `open` gave is stored as, where its dtype does not say it: "Q4_0". Null: it does.
  std::string (*stored_type)(const Checkpoint& checkpoint, const std::string& name) = nullptr;
  // How the linears of an artifact are stored, from schemes and shapes alone. Null: its codes are lost, or no
  // other program computes with them. REQUIRES: why_not() is "".
  StoredForm (*stored)(const OpenModel& artifact) = nullptr;
};

// In the order of `quantize list`.
const std::vector<FormatEntry>& formats();

// The row of that name; throws a usage Error with a suggestion.
const FormatEntry& find_format(const std::string& name);

// The row of another program's format that opens what lies at `path`; nullptr if none does: what lies there
// is an artifact of ours, a float checkpoint, or nothing that is read.
const FormatEntry* find_foreign_format(const std::string& path);

// ExportTarget::options, from those that were given. Throws a usage Error for one that the format does not
// have, and for a value that it cannot have.
std::map<std::string, std::string> export_options(const FormatEntry& format,
                                                  const std::map<std::string, std::string>& given);

// Throws Error if something is at `path`.
void expect_absent(const std::string& path);

// Opens a float checkpoint, or what any row opens. Throws Error.
OpenModel open_any_model(const std::string& path, const CheckpointOptions& options, at::Device device);

}  // namespace ptq
