// The steps and default options of each shipped method.
#pragma once

#include <string>
#include <vector>

#include "ptq/method/recipe.h"

namespace ptq {

std::vector<StepConfig> quamba_steps(const std::string& bits, JsonFields& options);
Json quamba_defaults();
std::vector<StepConfig> duquant_steps(const std::string& bits, JsonFields& options);
Json duquant_defaults();
std::vector<StepConfig> gptq_steps(const std::string& bits, JsonFields& options);
Json gptq_defaults();
std::vector<StepConfig> qera_steps(const std::string& base, JsonFields& options);
Json qera_defaults();
std::vector<StepConfig> smoothquant_steps(const std::string& bits, JsonFields& options);
Json smoothquant_defaults();
std::vector<StepConfig> rtn_steps(const std::string& bits, JsonFields& options);
Json rtn_defaults();

}  // namespace ptq
