// What rounding cost, as rows of the report.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/calibration/statistics.h"
#include "ptq/model/model.h"
#include "ptq/report/report.h"

namespace ptq {

// The row of one weight: its format, and the error of its values if it was rounded. `rewritten` is the float
// it was rounded from.
LayerRow weight_row(const Weight& rewritten, const Weight& written);

// Adds the rows of a sublayer's layers and sites.
//   rewritten    the sublayer after its rewrites, all float; it computes the float sublayer's function
//   quantized    the same after its roundings
//   inputs       held-out windows that arrive at the float sublayer [windows, length, d_model]; undefined in
//                a run without data, whose rows have the errors of the weights and nothing of activations
//   statistics   what calibration saw at the sites
//   corrections  what was put beside the linears, by name
void measure_sublayer(Sublayer& rewritten, Sublayer& quantized, const Tensor& inputs,
                      const Statistics& statistics, const std::map<std::string, CorrectionRow>& corrections,
                      Report& report);

// The windows on which a block's error is measured, of those held out: a view.
Tensor measured_windows(const Tensor& held_out);

// Adds the row of a block. `inputs`: measured_windows() of what arrived at it; `outputs`: of the float block,
// all windows that were held out. Both undefined in a run without data.
void measure_block(const Block& quantized, const Tensor& inputs, const Tensor& outputs, Report& report);

// Adds a warning where the bytes of corrections would have bought more in the weights' format.
void warn_of_better_bases(Report& report);

// From the headers of what `method` has written: which programs load an export of it.
std::vector<LoadsIn> programs_that_load(const OpenModel& written, const std::string& method);

}  // namespace ptq
