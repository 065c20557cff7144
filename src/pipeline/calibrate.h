// The rows that a run calibrates, chooses and measures on.
#pragma once

#include <memory>

#include "ptq/artifact/open_model.h"
#include "ptq/pipeline/run.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

struct CalibrationRows {
  Tensor ids;        // [rows, length] int64
  int64_t kept = 0;  // the last so many rows are kept aside, for choices and for measuring
  Json json;         // the report's "calibration"
};

// Tokens of a calibration row or an evaluation window: the recipe's, or the model's limit if that is less.
int64_t window_length(const Recipe& recipe, const Model& model);

// Reads --calib, or lets the float model write its own text. If no step needs data, all rows are for
// measuring. Warnings (fewer rows than asked) go to `warnings`. With a model on the meta device, text that it
// would write has a shape only.
CalibrationRows calibration_rows(const RunOptions& options, const Recipe& recipe, const Model& model,
                                 const Tokenizer* tokenizer, bool needs_data, Progress& progress,
                                 std::vector<std::string>& warnings);

}  // namespace ptq
