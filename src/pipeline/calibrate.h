// The rows that a run calibrates, chooses and measures on.
#pragma once

#include <memory>

#include "ptq/artifact/open_model.h"
#include "ptq/calibration/tokens.h"
#include "ptq/pipeline/run.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

// Without data there are none: `ids` is undefined, `json` null.
struct CalibrationRows {
  Tensor ids;           // [rows, length] int64
  int64_t kept = 0;     // the last so many rows are kept aside, for choices and for measuring
  Json json = nullptr;  // the report's "calibration"

  bool empty() const { return !ids.defined(); }
};

// How one of the run's files of text or ids is read.
TokenSource token_source(const RunOptions& options, const std::string& path);

// Tokens of a calibration row or an evaluation window: the recipe's, or the model's limit if that is less.
int64_t window_length(const Recipe& recipe, const Model& model);

// Throws Error if the model would have to write its own text and is too large for it: it is then read from
// disk once for every token of a row.
void expect_own_text_is_possible(const RunOptions& options, const Recipe& recipe, const Model& model,
                                 bool needs_data);

// Reads --calib, or lets the float model write its own text. If no step needs data there are no rows without
// --calib, and with it all are for measuring. Warnings (fewer rows than asked) go to `warnings`. With a model
// on the meta device, text that it would write has a shape only.
CalibrationRows calibration_rows(const RunOptions& options, const Recipe& recipe, const Model& model,
                                 const Tokenizer* tokenizer, bool needs_data, Progress& progress,
                                 std::vector<std::string>& warnings);

}  // namespace ptq
