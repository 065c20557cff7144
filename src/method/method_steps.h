// The steps and options of each shipped method.
#pragma once

#include <string>
#include <vector>

#include "ptq/method/recipe.h"

namespace ptq {

std::vector<StepConfig> quamba_steps(const std::string& bits, JsonFields& options);
std::vector<MethodOption> quamba_options();
std::vector<StepConfig> duquant_steps(const std::string& bits, JsonFields& options);
std::vector<MethodOption> duquant_options();
std::vector<StepConfig> gptq_steps(const std::string& bits, JsonFields& options);
std::vector<MethodOption> gptq_options();
std::vector<StepConfig> qera_steps(const std::string& base, JsonFields& options);
std::vector<MethodOption> qera_options();
std::vector<StepConfig> smoothquant_steps(const std::string& bits, JsonFields& options);
std::vector<MethodOption> smoothquant_options();
std::vector<StepConfig> rtn_steps(const std::string& bits, JsonFields& options);
std::vector<MethodOption> rtn_options();

}  // namespace ptq
