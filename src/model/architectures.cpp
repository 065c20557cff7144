// The table of architectures. To add one: write src/model/<name>.cpp, add its row.
#include <algorithm>

#include "model/llama.h"
#include "model/llama_config.h"
#include "model/mamba.h"
#include "model/mamba_config.h"
#include "ptq/base/error.h"
#include "ptq/model/model.h"

namespace ptq {

const std::vector<ArchitectureEntry>& architectures() {
  static const std::vector<ArchitectureEntry> entries = {
      {"mamba", "ssm", "Mamba-1 (MambaForCausalLM and state-spaces checkpoints)", has_mamba_tensors,
       make_mamba},
      {"llama", "transformer",
       "Llama-like transformer (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)",
       is_llama, make_llama},
  };
  return entries;
}

std::string declared_architecture(const Json& config) {
  if (!config.is_object()) return "";
  if (config.contains("architectures") && config["architectures"].is_array() &&
      !config["architectures"].empty() && config["architectures"][0].is_string()) {
    return config["architectures"][0].get<std::string>();
  }
  if (config.contains("model_type") && config["model_type"].is_string())
    return config["model_type"].get<std::string>();
  return "";
}

const ArchitectureEntry& find_architecture(const WeightSource& source, const std::string& path,
                                           const std::string& purpose) {
  for (const ArchitectureEntry& entry : architectures()) {
    if (entry.matches(source)) return entry;
  }
  const std::vector<std::string> names = source.names();
  std::string seen;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 4); ++i) seen += (i == 0 ? "" : ", ") + names[i];
  std::string supported;
  for (const ArchitectureEntry& entry : architectures()) {
    supported += (supported.empty() ? "" : "; ") + std::string(entry.name) + " = " + entry.description;
  }
  const std::string declared = declared_architecture(source.config());
  throw Error(path,
              (declared.empty() ? "the architecture is not recognised"
                                : "the architecture " + declared + " is not supported") +
                  "; " + std::to_string(names.size()) + " tensors, the first: " + seen,
              (purpose.empty() ? "" : purpose + "; ") + "supported architectures: " + supported);
}

}  // namespace ptq
