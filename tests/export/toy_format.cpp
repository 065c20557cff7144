// A format as src/export/ would have one: weights in 8 bits with one step a tensor or row, in Hugging Face's
// layout. A weight NAME is stored as NAME I8 and NAME.step F32, or as NAME in float.
#include "export/rows.h"
#include "ptq/artifact/companions.h"
#include "ptq/artifact/safetensors_spool.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/output.h"

namespace ptq {
namespace {

constexpr const char* kStep = ".step";

std::string why_not_toy(const OpenModel& artifact, const ExportTarget&) {
  for (int64_t i = 0; i < artifact.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = artifact.model->load_block(i);
    for (const Site* site : block->sites()) {
      if (site->quantizer.kind != ActivationQuantizer::Kind::kNone || !site->transform.empty())
        return Error(block->prefix() + ".sites." + site->name, "does something, which toy cannot").what();
    }
    for (const Linear* linear : block->linears()) {
      if (linear->correction) return Error(linear->name, "has a correction, which toy cannot have").what();
      if (!linear->weight.quantized()) continue;
      const WeightScheme& scheme = linear->weight.quantized()->scheme;
      if (scheme.bits != 8 || scheme.is_packed() || scheme.granularity == Granularity::kGroup)
        return Error(linear->name, "has a scheme that toy has not", "8 bits").what();
    }
  }
  return "";
}

void add(const Weight& weight, at::ScalarType floats, SafetensorsSpool& spool) {
  if (!weight.quantized()) {
    spool.add(weight.name, weight.values().to(floats));
    return;
  }
  spool.add(weight.name, weight.quantized()->codes);
  spool.add(weight.name + kStep, weight.quantized()->scale);
}

ExportResult write_toy(const OpenModel& artifact, const ExportTarget& target) {
  OutputDirectory output(target.output, /*force=*/false);
  auto spool = SafetensorsSpool::within(output, SafetensorsSpool::kUsualShard);
  const at::ScalarType floats = target.options.at("floats") == "f32" ? at::kFloat : at::kHalf;
  Model& model = *artifact.model;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    const std::unique_ptr<Block> block = model.load_block(i);
    for (const Weight* weight : block->weights()) add(*weight, floats, spool);
  }
  for (const Weight* weight : model.outer_weights()) add(*weight, floats, spool);
  spool.write(output);
  Json config = model.config();
  config["quantization_config"] = {{"quant_method", "toy"}};
  write_file(output.path("config.json"), python_json_text(config, 1) + "\n");
  std::vector<std::string> warnings;  // of the artifact's own files, said when it was made
  copy_companions(companion_files(artifact.checkpoint->directory(), "", warnings), output);
  write_checksums(output);
  output.commit();
  return {{{"output", target.output}}, target.output + ": a toy\n"};
}

class ToySource : public FloatSource {
 public:
  ToySource(const Checkpoint& checkpoint, at::Device device)
      : FloatSource(checkpoint, device), checkpoint_(checkpoint) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> names = FloatSource::names();
    std::erase_if(names, [](const std::string& name) { return name.ends_with(kStep); });
    return names;
  }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override {
    if (find(name + kStep) == nullptr) return FloatSource::read(name, role, shape);
    QuantizedTensor q;
    q.codes = as_tensor(checkpoint_.read(name)).to(device(), at::kChar, false, /*copy=*/true);
    q.scale = FloatSource::read(name + kStep, role, find(name + kStep)->shape).values();
    if (q.scale.numel() > 1) q.scheme.granularity = Granularity::kChannel;
    Weight weight(name, role, {}, at::kHalf);
    weight.set(std::move(q));
    return weight;
  }

 private:
  const Checkpoint& checkpoint_;
};

OpenModel open_toy(const std::string& path, const CheckpointOptions& options, at::Device device) {
  std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path, options);
  auto source = std::make_unique<ToySource>(*checkpoint, device);
  return assemble_model(std::move(checkpoint), std::move(source), /*quantized=*/true);
}

}  // namespace

FormatEntry toy_format() {
  FormatEntry entry{};
  entry.name = "toy";
  entry.description = "weights in 8 bits, in a form that nobody else reads";
  entry.output = "directory to write";
  entry.suffix = "-toy";
  entry.options = {{"floats", "FLOATS", "of what has no codes", "a dtype of floats", {"f32", "f16"}}};
  entry.why_not = why_not_toy;
  entry.write = write_toy;
  entry.is_at = [](const std::string& path) { return quant_method_at(path) == "toy"; };
  entry.open = open_toy;
  return entry;
}

}  // namespace ptq
