// Artifacts as compressed-tensors, which vLLM, SGLang and transformers load: a Hugging Face directory whose
// config.json says how each linear is stored (compressed_tensors_config.h, compressed_tensors_plan.h).
//
// Codes and scales are the artifact's, so that the weights stand for the same values. What has no home there
// is written in float or left out, and the result lists it: embeddings and other tensors in codes, layers
// that stay in float, rounded values that are no inputs of linears. Low-rank corrections go beside it, as a
// LoRA adapter of it (lora_adapter.h).
#include <filesystem>
#include <limits>

#include "export/compressed_tensors_plan.h"
#include "export/compressed_tensors_reader.h"
#include "export/packed_words.h"
#include "export/rows.h"
#include "ptq/artifact/companions.h"
#include "ptq/artifact/safetensors_spool.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/base/output.h"
#include "ptq/model/published_names.h"

namespace ptq {
namespace {

// What the values of a model are computed in, which servers make of scales: as the configuration says, else
// as the embedding is stored.
at::ScalarType model_dtype(Model& model) {
  for (const char* key : {"torch_dtype", "dtype"}) {
    const Json name = model.config().value(key, Json());
    if (name == "float16") return at::kHalf;
    if (name == "bfloat16") return at::kBFloat16;
    if (name == "float32") return at::kFloat;
  }
  const Weight& embedding = *model.outer_weights().front();
  return embedding.quantized() != nullptr ? at::kFloat : embedding.stored;
}

const char* dtype_text(at::ScalarType dtype) {
  return dtype == at::kHalf ? "float16" : dtype == at::kBFloat16 ? "bfloat16" : "float32";
}

bool is_exact(const Tensor& values, at::ScalarType dtype) {
  return at::equal(values.to(dtype).to(at::kFloat), values);
}

struct Written {
  std::vector<std::string> in_float;         // weights that the artifact has in codes
  std::map<std::string, double> rotated_db;  // weights that were turned back, and what rounding them cost
  std::map<std::string, int64_t> by_format;
};

class Writer {
 public:
  Writer(const CompressedTensorsPlan& plan, at::ScalarType dtype, SafetensorsSpool& spool)
      : plan_(plan), dtype_(dtype), spool_(spool) {}

  void add(Block& block);
  // What is no linear, or stays in float.
  void add(const Weight& weight);
  const Written& written() const { return written_; }

 private:
  void add(Block& block, const Linear& linear, const LinearPlan& plan);
  void add_packed(const std::string& name, const QuantizedTensor& q);

  const CompressedTensorsPlan& plan_;
  at::ScalarType dtype_;
  SafetensorsSpool& spool_;
  Written written_;
};

void Writer::add(const Weight& weight) {
  if (weight.quantized() == nullptr) {
    spool_.add(published_name(weight.name), weight.values().to(weight.stored));
    return;
  }
  written_.in_float.push_back(weight.name);
  const Tensor values = weight.values();
  // Small tensors of a scan keep every digit; large ones are what the model computes in, if that holds them.
  const bool large =
      weight.role == Role::kLinear || weight.role == Role::kEmbedding || weight.role == Role::kHead;
  const Tensor narrow = values.to(dtype_);
  spool_.add(published_name(weight.name), large && at::isfinite(narrow).all().item<bool>() ? narrow : values);
}

// The artifact's codes under a scheme that holds the same values.
QuantizedTensor fitted(const QuantizedTensor& q, const WeightScheme& scheme) {
  QuantizedTensor result = q;
  result.scheme = scheme;
  const int64_t out = q.codes.size(0), in = q.codes.size(1);
  const std::vector<int64_t> shape = scheme.scale_shape(out, in);
  if (q.scheme.granularity == Granularity::kGroup && scheme.granularity == Granularity::kGroup &&
      q.scheme.group != scheme.group) {
    const auto spread = [&](const Tensor& t) {
      return t.repeat_interleave(q.scheme.group / scheme.group, 1).slice(1, 0, shape.at(1)).contiguous();
    };
    result.scale = spread(q.scale);
    if (q.zero.defined()) result.zero = spread(q.zero);
    return result;
  }
  result.scale = q.scale.expand(shape).contiguous();
  if (q.zero.defined()) result.zero = q.zero.expand(shape).contiguous();
  return result;
}

// A scale of 0 makes loaders divide by it. What it stood for is 0 under any scale if the codes are.
void replace_zero_scales(QuantizedTensor& q) {
  const Tensor nothing = q.scale == 0;
  if (!nothing.any().item<bool>()) return;
  const int64_t group = q.codes.size(1) / q.scale.size(1);
  Tensor groups = q.codes.clone().unflatten(1, {-1, group});
  const Tensor zero = q.zero.defined() ? q.zero : at::zeros_like(q.scale, at::kChar);
  q.codes = at::where(nothing.unsqueeze(2), zero.unsqueeze(2), groups).flatten(1);
  q.scale = q.scale.masked_fill(nothing, 0x1p-14);  // the smallest normal float16
}

void Writer::add_packed(const std::string& name, const QuantizedTensor& q) {
  const int bits = q.scheme.bits;
  spool_.add(name + kPackedWeight, pack_words(q.codes, bits));
  spool_.add(name + kWeightShape, at::tensor({q.codes.size(0), q.codes.size(1)}, at::kLong));
  spool_.add(name + kWeightScale, is_exact(q.scale, dtype_) ? q.scale.to(dtype_) : q.scale);
  if (q.zero.defined())
    spool_.add(name + kWeightZero, pack_words(q.zero.t().contiguous(), bits).t().contiguous());
}

void Writer::add(Block& block, const Linear& linear, const LinearPlan& plan) {
  const Site& site = block.site(linear.site);
  const LinearScheme& scheme = *plan.scheme;
  QuantizedTensor q;
  if (plan.rotated) {
    const Tensor values = site.transform.apply_inverse(linear.weight.values());
    q = round_to_nearest(values, scheme.weights);
    written_.rotated_db[linear.name] = sqnr_db(values, dequantize(q));
  } else {
    q = fitted(*linear.weight.quantized(), scheme.weights);
  }
  if (scheme.packed) {
    replace_zero_scales(q);
    add_packed(linear.name, q);
  } else {
    spool_.add(linear.name + kWeight, q.codes);
    spool_.add(linear.name + kWeightScale, q.scale);
  }
  if (scheme.inputs && !scheme.inputs->per_token) spool_.add(linear.name + kInputScale, site.quantizer.scale);
  ++written_.by_format[scheme.format()];
}

void Writer::add(Block& block) {
  std::map<std::string, const Linear*> in_codes;  // by the name of the weight
  for (const Linear* linear : block.linears()) {
    if (plan_.linears.at(linear->name).scheme) in_codes[linear->weight.name] = linear;
  }
  for (const Weight* weight : block.weights()) {
    const auto found = in_codes.find(weight->name);
    if (found == in_codes.end()) {
      add(*weight);
    } else {
      add(block, *found->second, plan_.linears.at(found->second->name));
    }
  }
}

// Where the corrections go.
std::string adapter_path(const std::string& output) {
  return std::filesystem::path(output).lexically_normal().string() + "-adapter";
}

ExportResult result_of(const CompressedTensorsPlan& plan, const Written& written, const std::string& output) {
  std::string text = output + ": compressed-tensors, ";
  for (const auto& [format, count] : written.by_format) {
    text += count_text(count, "layer") + " " + format +
            (format == written.by_format.rbegin()->first ? "\n" : ", ");
  }
  const auto line = [&text](const std::string& what) { text += "  " + what + "\n"; };
  if (!written.in_float.empty()) {
    line(
        "in float, because compressed-tensors holds no codes of them: " + written.in_float.front() +
        (written.in_float.size() > 1 ? " and " + std::to_string(written.in_float.size() - 1) + " more" : ""));
  }
  double worst = std::numeric_limits<double>::infinity();
  for (const auto& [name, db] : written.rotated_db) worst = std::min(worst, db);
  if (!written.rotated_db.empty()) {
    line(count_text(static_cast<int64_t>(written.rotated_db.size()), "layer") +
         " turned back from an online rotation and rounded again, at " + std::to_string(worst).substr(0, 5) +
         " dB or more; their inputs are rounded token by token");
  }
  for (const auto& [site, count] : plan.unrounded_sites)
    line("not rounded where this is loaded: " + site + " of " + count_text(count, "block"));
  if (plan.dequantize && plan.schemes().size() > 1) {
    line("transformers does not load this, which it would have to dequantize by one scheme, and it has " +
         std::to_string(plan.schemes().size()) + "; servers do");
  } else if (plan.dequantize) {
    line(
        "transformers makes floats of the weights when it loads this (\"dequantize\": true), and rounds no "
        "inputs; servers keep the codes");
  }
  const auto corrected = static_cast<int64_t>(plan.corrected.beside.size());
  if (corrected > 0) {
    text += adapter_path(output) + ": a LoRA adapter with the corrections of " +
            count_text(corrected, "layer") + ", which belongs to it\n";
  }
  return {{{"output", output},
           {"adapter", corrected > 0 ? Json(adapter_path(output)) : Json(nullptr)},
           {"layers", written.by_format},
           {"in_float", written.in_float},
           {"rotated_sqnr_db", written.rotated_db},
           {"unrounded_sites", plan.unrounded_sites},
           {"dequantize", plan.dequantize}},
          text};
}

std::string why_not(const OpenModel& artifact, const ExportTarget&) {
  return reason_against([&] { plan_compressed_tensors(artifact); });
}

// Memory: a block at a time.
ExportResult write(const OpenModel& artifact, const ExportTarget& target) {
  const CompressedTensorsPlan plan = plan_compressed_tensors(artifact);
  Model& model = *artifact.model;
  Json config = model.config();
  OutputDirectory output(target.output, /*force=*/false);
  std::optional<LoraAdapter> adapter;
  if (!plan.corrected.beside.empty()) {
    expect_absent(adapter_path(target.output));
    adapter.emplace(adapter_path(target.output), plan.corrected, last_name(target.output));
  }
  auto spool = SafetensorsSpool::within(output, SafetensorsSpool::kUsualShard);
  const at::ScalarType dtype = model_dtype(model);
  Writer writer(plan, dtype, spool);
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    throw_if_interrupted();
    const std::unique_ptr<Block> block = model.load_block(i);
    writer.add(*block);
    for (const Linear* linear : block->linears()) {
      if (linear->correction) adapter->add(*linear);
    }
    return_free_memory();
  }
  for (const Weight* weight : model.outer_weights()) writer.add(*weight);
  spool.write(output);
  if (!config.contains("torch_dtype") && !config.contains("dtype")) config["torch_dtype"] = dtype_text(dtype);
  config["quantization_config"] = plan.quantization_config();
  write_file(output.path("config.json"), python_json_text(config, 1) + "\n");
  std::vector<std::string> warnings;  // an output holds no links, and nothing that is too large
  copy_companions(companion_files(artifact.checkpoint->directory(), "", warnings), output);
  write_checksums(output);
  if (adapter) adapter->write();
  output.commit();
  if (adapter) adapter->commit();
  return result_of(plan, writer.written(), target.output);
}

}  // namespace

FormatEntry compressed_tensors_format() {
  FormatEntry entry{};
  entry.name = kCompressedTensors;
  entry.description = "safetensors in integer codes that vLLM, SGLang and transformers load";
  entry.output = "directory to write; an adapter of corrections goes beside it, as DIR-adapter";
  entry.suffix = "-compressed-tensors";
  entry.why_not = why_not;
  entry.write = write;
  entry.is_at = [](const std::string& path) { return quant_method_at(path) == kCompressedTensors; };
  entry.open = open_compressed_tensors;
  return entry;
}

}  // namespace ptq
