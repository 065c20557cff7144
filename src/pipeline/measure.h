// What rounding one block cost, as rows of the report.
#pragma once

#include <map>
#include <string>

#include "ptq/calibration/statistics.h"
#include "ptq/model/model.h"
#include "ptq/report/report.h"

namespace ptq {

// The row of one weight: its format, and the error of its values if it was rounded. `rewritten` is the float
// it was rounded from.
LayerRow weight_row(const Weight& rewritten, const Weight& written);

// Adds the rows of one block.
//   rewritten  the block after its rewrites, all float; as it computes the float block's function
//   quantized  the same after its roundings
//   inputs, outputs  rows kept aside: the float block's [rows, length, d_model]; undefined in a run without
//   data, whose
//                    rows have the errors of the weights and nothing of activations
//   statistics  what calibration saw at the sites
//   corrections what was put beside the linears, by name
void measure_block(Block& rewritten, Block& quantized, const Tensor& inputs, const Tensor& outputs,
                   const Statistics& statistics, const std::map<std::string, CorrectionRow>& corrections,
                   Report& report);

}  // namespace ptq
