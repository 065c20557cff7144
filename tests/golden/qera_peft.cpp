// Cases of sort q3: base and adapter of a case, run by this program.
#include "qera_cases.h"

#include "memory_source.h"
#include "ptq/base/json.h"

namespace ptq::golden {
namespace {

constexpr double kLogits = 1e-4;  // absolute

std::map<std::string, Tensor> tensors_under(const std::string& prefix, const CaseTensors& tensors) {
  std::map<std::string, Tensor> found;
  for (const TensorInfo& info : tensors.file().tensors()) {
    if (info.name.starts_with(prefix)) found[info.name.substr(prefix.size())] = tensors[info.name];
  }
  return found;
}

Tensor logits_of(const Model& model, const Tensor& ids, const std::map<std::string, Tensor>& adapter) {
  Tensor hidden = model.embed(ids);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    for (Linear* linear : block->linears()) {
      const auto A = adapter.find(linear->name + ".lora_A.weight");
      if (A == adapter.end()) continue;
      linear->correction =
          make_low_rank(A->second, adapter.at(linear->name + ".lora_B.weight"), A->second.scalar_type());
    }
    hidden = block->forward(hidden);
  }
  return model.logits(hidden);
}

}  // namespace

void run_qera_peft(const std::filesystem::path& json_path, Checks& checks) {
  const Json test = read_json_file(json_path.string());
  const CaseTensors tensors(json_path);
  Json config = test.at("config");
  config["architectures"] = {"LlamaForCausalLM"};
  config["model_type"] = "llama";
  if (!config.contains("max_position_embeddings")) config["max_position_embeddings"] = 2048;
  const MemorySource source(tensors_under("base.", tensors), config);
  const std::unique_ptr<Model> model = find_architecture(source, json_path.string()).make(source);
  const std::map<std::string, Tensor> adapter = tensors_under("base_model.model.", tensors);
  const Tensor ids = tensors["ids"].to(at::kLong);
  const auto differ = [&](const Tensor& logits, const char* name) {
    return (logits - tensors[name]).abs().max().item<double>();
  };
  const double base = differ(logits_of(*model, ids, {}), "logits_base");
  checks.expect(base <= kLogits, "logits of the base differ by " + std::to_string(base));
  const double whole = differ(logits_of(*model, ids, adapter), "logits_peft");
  checks.expect(whole <= kLogits, "logits with the adapter differ by " + std::to_string(whole));
  checks.expect(!adapter.empty(), "no adapter");
}

}  // namespace ptq::golden
