// Every shipped method, in the order `quantize list` prints them. To add one: write src/method/<name>.cpp
// with its steps, declare them in method_steps.h, add its row.
#include <algorithm>

#include "method/method_steps.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"
#include "ptq/method/recipe.h"

namespace ptq {

const std::vector<MethodEntry>& methods() {
  static const std::vector<MethodEntry> entries = {
      {"quamba",
       "static INT8 for Mamba: clipped SSM input, Hadamard-rotated SSM output (arXiv 2410.13229)",
       {"w8a8", "w4a8", "w4a16"},
       {"ssm"},
       "selective state-space models (Mamba)",
       128,
       512,
       quamba_steps,
       quamba_options},
      {"duquant",
       "INT4 weights and activations: rotate, permute, rotate (arXiv 2406.01721)",
       {"w4a4", "w6a6", "w4a8", "w8a8", "w4a16"},
       {"transformer"},
       "transformers",
       8,
       2048,
       duquant_steps,
       duquant_options},
      {"qera",
       "low-rank correction of rounded weights, in closed form (arXiv 2410.06040)",
       {"mxint4", "mxint3", "mxint2", "mxint8", "int4-g128", "int4-g32-asym", "int3-g64", "int8", "nf4",
        "gptq:int4-g128"},
       {},
       "any model",
       64,
       512,
       qera_steps,
       qera_options,
       true},
      {"gptq",
       "weights rounded column by column, errors made up for in those that follow (arXiv 2210.17323)",
       {"w4a16", "w8a16", "w4a8", "w8a8", "w6a6", "w4a4"},
       {},
       "any model",
       128,
       512,
       gptq_steps,
       gptq_options},
      {"smoothquant",
       "activation outliers moved into the weights, then static INT8 (arXiv 2211.10438)",
       {"w8a8", "w6a6", "w4a8", "w4a4"},
       {},
       "any model",
       128,
       512,
       smoothquant_steps,
       smoothquant_options},
      {"rtn",
       "round to nearest: the baseline; needs no calibration",
       {"w8a8", "w8a16", "w4a16", "w4a8", "w6a6", "w4a4"},
       {},
       "any model",
       16,
       512,
       rtn_steps,
       rtn_options},
  };
  return entries;
}

Json MethodEntry::default_options() const {
  Json defaults = Json::object();
  for (const MethodOption& option : options()) defaults[option.name] = option.value;
  return defaults;
}

std::string methods_for(const std::vector<std::string>& families) {
  std::string own, any;
  for (const MethodEntry& method : methods()) {
    const bool for_all = method.families.empty();
    const bool fits = for_all || families.empty() ||
                      std::ranges::find_first_of(method.families, families) != method.families.end();
    if (!fits) continue;
    std::string& list = for_all ? any : own;
    if (!list.empty()) list += ", ";
    list += for_all ? method.name : std::string(method.name) + " for " + method.purpose;
  }
  return "--method " + own + (own.empty() ? "" : "; ") + any +
         " for any model; `quantize list` describes them";
}

const MethodEntry& find_method(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const MethodEntry& entry : methods()) {
    if (entry.name == name) return entry;
    names.emplace_back(entry.name);
  }
  throw usage_error(where, "there is no method \"" + name + "\"", suggest(name, names));
}

}  // namespace ptq
