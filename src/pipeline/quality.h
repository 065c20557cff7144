// What quantizing cost in perplexity.
#pragma once

#include "pipeline/calibrate.h"
#include "ptq/artifact/open_model.h"
#include "ptq/report/report.h"

namespace ptq {

// On the held-out windows. `hidden` are the float model's states after the last block, [windows, length,
// d_model]; the artifact is read back from where it was written, so what is measured is what users will run.
Quality quality_on_windows(const Model& float_model, const Tensor& hidden, const Tensor& ids,
                           const OpenModel& artifact);

// On a text, in windows of `length`, by running both models over it.
Quality quality_on_text(const Model& float_model, const OpenModel& artifact, const std::vector<int64_t>& ids,
                        int64_t length, const std::string& text, Progress& progress);

}  // namespace ptq
