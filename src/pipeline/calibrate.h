// The windows that a run calibrates, chooses and measures on.
#pragma once

#include <memory>

#include "ptq/artifact/open_model.h"
#include "ptq/calibration/stream.h"
#include "ptq/calibration/tokens.h"
#include "ptq/pipeline/run.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

// Without data there are none: `ids` is undefined, `json` null.
struct CalibrationWindows {
  Tensor ids;           // [windows, length] int64
  WindowSplit split;    // what is held out serves choices and measuring
  Json json = nullptr;  // the report's "calibration"

  bool empty() const { return !ids.defined(); }
  // The ids of what is held out: a view.
  Tensor held_out() const { return ids.slice(0, ids.size(0) - split.held_out); }
};

// How one of the run's files of text or ids is read.
TokenSource token_source(const RunOptions& options, const std::string& path);

// Tokens of a window of calibration or evaluation: the recipe's, or the model's limit if that is less.
int64_t window_length(const Recipe& recipe, const Model& model);

// Throws Error if the model would have to write its own text and is too large for it: it is then read from
// disk once for every token of a row.
void expect_own_text_is_possible(const RunOptions& options, const Recipe& recipe, const Model& model,
                                 bool needs_data);

// Reads --calib, or lets the float model write its own text. If no step needs data there are no windows
// without --calib, and with it all are for measuring. Warnings (fewer windows than asked) go to `warnings`.
// With a model on the meta device, text that it would write has a shape only.
CalibrationWindows calibration_windows(const RunOptions& options, const Recipe& recipe, const Model& model,
                                       const Tokenizer* tokenizer, bool needs_data, Progress& progress,
                                       std::vector<std::string>& warnings);

}  // namespace ptq
