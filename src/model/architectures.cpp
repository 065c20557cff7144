// The table of architectures, and which of them a checkpoint is.
#include <algorithm>

#include "model/layouts.h"
#include "model/llama.h"
#include "model/llama_config.h"
#include "model/mamba.h"
#include "model/mamba2.h"
#include "model/mamba2_config.h"
#include "model/mamba_config.h"
#include "ptq/base/error.h"
#include "ptq/base/join.h"
#include "ptq/model/model.h"

namespace ptq {
namespace {

constexpr size_t kTensorsShown = 4;

bool declares_all(const ArchitectureEntry& entry, const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(entry.declared.begin(), entry.declared.end(), name) != entry.declared.end();
  });
}

bool has_blocks(const ArchitectureEntry& entry, const std::vector<std::string>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const std::string& name) { return name.starts_with(entry.blocks); });
}

// Why no row fits.
std::string mismatch(const WeightSource& source, const std::vector<std::string>& declared) {
  if (declared.empty()) return "the architecture is not recognised";
  const std::string name = join(declared, ", ");
  for (const ArchitectureEntry& entry : architectures()) {
    if (declares_all(entry, declared))
      return "the configuration says " + name + ", but no tensor's name begins with " + entry.blocks;
  }
  for (const ArchitectureEntry& entry : architectures()) {
    if (entry.has_tensors == nullptr || !entry.has_tensors(source)) continue;
    std::vector<std::string> others;
    for (const std::string& each : declared) {
      if (!declares_all(entry, {each})) others.push_back(each);
    }
    return "the architecture " + join(others, ", ") + " is not supported; its tensors have the names of " +
           entry.name + ", and what is declared is another model";
  }
  return "the architecture " + name + " is not supported";
}

}  // namespace

const std::vector<ArchitectureEntry>& architectures() {
  static const std::vector<ArchitectureEntry> entries = {
      {"mamba",
       {"ssm"},
       "Mamba-1 (MambaForCausalLM and state-spaces checkpoints)",
       {"MambaForCausalLM", "MambaModel", "MambaLMHeadModel", "mamba"},
       "backbone.layers.",
       has_mamba_tensors,
       mamba_layout},
      {"mamba2",
       {"ssm"},
       "Mamba-2 (Mamba2ForCausalLM and state-spaces checkpoints)",
       {"Mamba2ForCausalLM", "Mamba2Model", "mamba2"},
       "backbone.layers.",
       has_mamba2_tensors,
       mamba2_layout},
      {"llama",
       {"transformer"},
       "Llama-like transformer (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)",
       llama_names(),
       "model.layers.",
       has_llama_tensors,
       llama_layout},
      {"falcon-mamba",
       {"ssm"},
       "FalconMamba (FalconMambaForCausalLM)",
       {"FalconMambaForCausalLM", "FalconMambaModel", "falcon_mamba"},
       "backbone.layers.",
       nullptr,
       falcon_mamba_layout},
      {"gemma2",
       {"transformer"},
       "Gemma 2 (Gemma2ForCausalLM)",
       {"Gemma2ForCausalLM", "Gemma2Model", "gemma2"},
       "model.layers.",
       nullptr,
       gemma2_layout},
      {"gemma3",
       {"transformer"},
       "Gemma 3, text (Gemma3ForCausalLM)",
       {"Gemma3ForCausalLM", "Gemma3TextModel", "gemma3_text"},
       "model.layers.",
       nullptr,
       gemma3_layout},
      {"granite",
       {"transformer"},
       "Granite 3 (GraniteForCausalLM)",
       {"GraniteForCausalLM", "GraniteModel", "granite"},
       "model.layers.",
       nullptr,
       granite_layout},
      {"olmo2",
       {"transformer"},
       "OLMo 2 (Olmo2ForCausalLM)",
       {"Olmo2ForCausalLM", "Olmo2Model", "olmo2"},
       "model.layers.",
       nullptr,
       olmo2_layout},
      {"phi3",
       {"transformer"},
       "Phi-3 (Phi3ForCausalLM)",
       {"Phi3ForCausalLM", "Phi3Model", "phi3"},
       "model.layers.",
       nullptr,
       phi3_layout},
      {"stablelm",
       {"transformer"},
       "StableLM (StableLmForCausalLM)",
       {"StableLmForCausalLM", "StableLmModel", "stablelm"},
       "model.layers.",
       nullptr,
       stablelm_layout},
      {"gpt-neox",
       {"transformer"},
       "GPT-NeoX and Pythia (GPTNeoXForCausalLM)",
       {"GPTNeoXForCausalLM", "GPTNeoXModel", "gpt_neox"},
       "gpt_neox.layers.",
       nullptr,
       gpt_neox_layout},
      {"opt",
       {"transformer"},
       "OPT (OPTForCausalLM)",
       {"OPTForCausalLM", "OPTModel", "opt"},
       "model.decoder.layers.",
       nullptr,
       opt_layout},
      {"jamba",
       {"ssm", "transformer", "moe"},
       "Jamba (JambaForCausalLM)",
       {"JambaForCausalLM", "JambaModel", "jamba"},
       "model.layers.",
       nullptr,
       jamba_layout},
      {"bamba",
       {"ssm", "transformer"},
       "Bamba (BambaForCausalLM)",
       {"BambaForCausalLM", "BambaModel", "bamba"},
       "model.layers.",
       nullptr,
       bamba_layout},
      {"granite4",
       {"ssm", "transformer", "moe"},
       "Granite 4 (GraniteMoeHybridForCausalLM)",
       {"GraniteMoeHybridForCausalLM", "GraniteMoeHybridModel", "granitemoehybrid"},
       "model.layers.",
       nullptr,
       granite4_layout},
      {"falcon-h1",
       {"ssm", "transformer"},
       "Falcon-H1 (FalconH1ForCausalLM)",
       {"FalconH1ForCausalLM", "FalconH1Model", "falcon_h1"},
       "model.layers.",
       nullptr,
       falcon_h1_layout},
      {"nemotron-h",
       {"ssm", "transformer", "moe"},
       "Nemotron-H (NemotronHForCausalLM)",
       {"NemotronHForCausalLM", "NemotronHModel", "nemotron_h"},
       "backbone.layers.",
       nullptr,
       nemotron_h_layout,
       {"mtp.*"}},
      {"mixtral",
       {"transformer", "moe"},
       "Mixtral (MixtralForCausalLM)",
       {"MixtralForCausalLM", "MixtralModel", "mixtral"},
       "model.layers.",
       nullptr,
       mixtral_layout},
      {"qwen2-moe",
       {"transformer", "moe"},
       "Qwen2-MoE (Qwen2MoeForCausalLM)",
       {"Qwen2MoeForCausalLM", "Qwen2MoeModel", "qwen2_moe"},
       "model.layers.",
       nullptr,
       qwen2_moe_layout},
      {"qwen3-moe",
       {"transformer", "moe"},
       "Qwen3-MoE (Qwen3MoeForCausalLM)",
       {"Qwen3MoeForCausalLM", "Qwen3MoeModel", "qwen3_moe"},
       "model.layers.",
       nullptr,
       qwen3_moe_layout},
      {"olmoe",
       {"transformer", "moe"},
       "OLMoE (OlmoeForCausalLM)",
       {"OlmoeForCausalLM", "OlmoeModel", "olmoe"},
       "model.layers.",
       nullptr,
       olmoe_layout},
  };
  return entries;
}

std::vector<std::string> declared_architectures(const Json& config) {
  std::vector<std::string> names;
  const auto add = [&](const Json& name) {
    if (!name.is_string() || name == "") return;
    const std::string text = name.get<std::string>();
    if (std::find(names.begin(), names.end(), text) == names.end()) names.push_back(text);
  };
  if (!config.is_object()) return names;
  if (config.contains("architectures")) {
    const Json& listed = config["architectures"];
    if (listed.is_array()) std::for_each(listed.begin(), listed.end(), add);
    add(listed);
  }
  if (config.contains("model_type")) add(config["model_type"]);
  return names;
}

const ArchitectureEntry* match_architecture(const WeightSource& source) {
  const std::vector<std::string> declared = declared_architectures(source.config());
  const std::vector<std::string> tensors = source.names();
  for (const ArchitectureEntry& entry : architectures()) {
    const bool fits = declared.empty() ? entry.has_tensors != nullptr && entry.has_tensors(source)
                                       : declares_all(entry, declared) && has_blocks(entry, tensors);
    if (fits) return &entry;
  }
  return nullptr;
}

const ArchitectureEntry& find_architecture(const WeightSource& source, const std::string& path,
                                           const std::string& purpose) {
  if (const ArchitectureEntry* entry = match_architecture(source); entry != nullptr) return *entry;
  const std::vector<std::string> names = source.names();
  const std::vector<std::string> seen(
      names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kTensorsShown)));
  std::string supported;
  for (const ArchitectureEntry& entry : architectures()) {
    supported += (supported.empty() ? "" : "; ") + std::string(entry.name) + " = " + entry.description;
  }
  throw Error(path,
              mismatch(source, declared_architectures(source.config())) + "; " +
                  std::to_string(names.size()) + " tensors, the first: " + join(seen, ", "),
              (purpose.empty() ? "" : purpose + "; ") + "supported architectures: " + supported);
}

}  // namespace ptq
