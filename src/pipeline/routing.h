// Where the tokens of mixtures of experts go.
#pragma once

#include "ptq/calibration/statistics.h"
#include "ptq/model/model.h"
#include "ptq/report/report.h"
#include "ptq/step/step.h"

namespace ptq {

// Adds the sublayer's row, if it has experts: how many tokens of the `windows` calibration windows of
// `length` went to each, where a step has measured what their last layers read. An expert without any is a
// fallback.
void count_routed(Sublayer& sublayer, const Statistics& statistics, int64_t windows, int64_t length,
                  Remarks& remarks, Report& report);

// Gives the report's rows the share of tokens that go to other experts in the quantized model: of the first
// windows of ids [windows, length]. Both models run, a block at a time. Nothing without rows.
void measure_routing(const Model& floats, const Model& quantized, const Tensor& ids, Report& report);

}  // namespace ptq
