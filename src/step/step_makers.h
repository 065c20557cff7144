// One maker for each row of the table in steps.cpp.
#pragma once

#include <memory>

#include "ptq/step/step.h"

namespace ptq {

std::unique_ptr<Step> make_smooth_step(JsonFields& options);
std::unique_ptr<Step> make_hadamard_step(JsonFields& options);
std::unique_ptr<Step> make_rotate_step(JsonFields& options);
std::unique_ptr<Step> make_zigzag_step(JsonFields& options);
std::unique_ptr<Step> make_qk_hadamard_step(JsonFields& options);
std::unique_ptr<Step> make_rtn_step(JsonFields& options);
std::unique_ptr<Step> make_gptq_step(JsonFields& options);
std::unique_ptr<Step> make_low_rank_step(JsonFields& options);
std::unique_ptr<Step> make_activations_step(JsonFields& options);

}  // namespace ptq
