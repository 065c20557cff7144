// Artifacts as compressed-tensors, which vLLM, SGLang and transformers load: a Hugging Face directory whose
// config.json says how each linear is stored (compressed_tensors_config.h, compressed_tensors_plan.h).
//
// Codes and scales are the artifact's, so that the weights stand for the same values. What has no home there
// is written in float or left out, and the result lists it: embeddings and other tensors in codes, layers
// that stay in float, rounded values that are no inputs of linears. Low-rank corrections go beside it, as a
// LoRA adapter of it (lora_adapter.h).
#include <limits>

#include "export/compressed_tensors_plan.h"
#include "export/compressed_tensors_reader.h"
#include "export/hub_directory.h"
#include "export/packed_words.h"
#include "export/rows.h"
#include "export/weights_plan.h"

namespace ptq {
namespace {

bool is_exact(const Tensor& values, at::ScalarType dtype) {
  return at::equal(values.to(dtype).to(at::kFloat), values);
}

struct Written {
  std::vector<std::string> in_float;         // weights that the artifact has in codes
  std::map<std::string, double> rotated_db;  // weights that were turned back, and what rounding them cost
  std::map<std::string, int64_t> by_format;
};

void add_packed(const std::string& name, const QuantizedTensor& q, at::ScalarType dtype,
                SafetensorsSpool& spool) {
  const int bits = q.scheme.bits;
  spool.add(name + kPackedWeight, pack_words(q.codes, bits));
  spool.add(name + kWeightShape, at::tensor({q.codes.size(0), q.codes.size(1)}, at::kLong));
  spool.add(name + kWeightScale, is_exact(q.scale, dtype) ? q.scale.to(dtype) : q.scale);
  if (q.zero.defined())
    spool.add(name + kWeightZero, pack_words(q.zero.t().contiguous(), bits).t().contiguous());
}

// The tensors of a linear in codes. Scales of packed codes are in `dtype`, if that holds them.
void add_codes(Block& block, const Linear& linear, const LinearPlan& plan, at::ScalarType dtype,
               SafetensorsSpool& spool, Written& written) {
  const Site& site = block.site(linear.site);
  const LinearScheme& scheme = *plan.scheme;
  QuantizedTensor q;
  if (plan.rotated) {
    const Tensor values = site.transform.apply_inverse(linear.weight.values());
    q = round_to_nearest(values, scheme.weights);
    written.rotated_db[linear.name] = sqnr_db(values, dequantize(q));
  } else {
    q = fitted(*linear.weight.quantized(), scheme.weights);
  }
  if (scheme.packed) {
    replace_zero_scales(q);
    add_packed(linear.name, q, dtype, spool);
  } else {
    spool.add(linear.name + kWeight, q.codes);
    spool.add(linear.name + kWeightScale, q.scale);
  }
  if (scheme.inputs && !scheme.inputs->per_token) spool.add(linear.name + kInputScale, site.quantizer.scale);
  ++written.by_format[scheme.format()];
}

ExportResult result_of(const CompressedTensorsPlan& plan, const Written& written, const std::string& output) {
  std::string text = output + ": compressed-tensors, ";
  for (const auto& [format, count] : written.by_format) {
    text += count_text(count, "layer") + " " + format +
            (format == written.by_format.rbegin()->first ? "\n" : ", ");
  }
  const auto line = [&text](const std::string& what) { text += "  " + what + "\n"; };
  text += in_float_text(written.in_float, kCompressedTensors);
  double worst = std::numeric_limits<double>::infinity();
  for (const auto& [name, db] : written.rotated_db) worst = std::min(worst, db);
  if (!written.rotated_db.empty()) {
    line(count_text(static_cast<int64_t>(written.rotated_db.size()), "layer") +
         " turned back from an online rotation and rounded again, at " + std::to_string(worst).substr(0, 5) +
         " dB or more; their inputs are rounded token by token");
  }
  text += unrounded_text(plan.unrounded_sites);
  if (plan.dequantize && plan.schemes().size() > 1) {
    line("transformers does not load this, which it would have to dequantize by one scheme, and it has " +
         std::to_string(plan.schemes().size()) + "; servers do");
  } else if (plan.dequantize) {
    line(
        "transformers makes floats of the weights when it loads this (\"dequantize\": true), and rounds no "
        "inputs; servers keep the codes");
  }
  text += adapter_text(plan.corrected, output);
  const std::string adapter = adapter_path(plan.corrected, output);
  return {{{"output", output},
           {"adapter", adapter.empty() ? Json(nullptr) : Json(adapter)},
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

StoredForm stored(const OpenModel& artifact) {
  const CompressedTensorsPlan plan = plan_compressed_tensors(artifact);
  StoredForm form = stored_form(artifact, [&plan](const Linear& linear, StoredLinear& one) {
    const std::optional<LinearScheme>& scheme = plan.linears.at(linear.name).scheme;
    if (!scheme) return;
    one.weights = scheme->weights;
    one.inputs = scheme->inputs;
  });
  form.dequantize = plan.dequantize;
  return form;
}

ExportResult write(const OpenModel& artifact, const ExportTarget& target) {
  const CompressedTensorsPlan plan = plan_compressed_tensors(artifact);
  const at::ScalarType dtype = model_dtype(*artifact.model);
  Written written;
  HubForm form;
  form.add_codes = [&](Block& block, const Linear& linear, SafetensorsSpool& spool) {
    const LinearPlan& planned = plan.linears.at(linear.name);
    if (planned.scheme) add_codes(block, linear, planned, dtype, spool, written);
    return planned.scheme.has_value();
  };
  form.quantization_config = plan.quantization_config();
  form.corrected = plan.corrected;
  form.adapter = adapter_path(plan.corrected, target.output);
  written.in_float = write_hub_directory(artifact, target.output, form);
  return result_of(plan, written, target.output);
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
  entry.stored = stored;
  return entry;
}

}  // namespace ptq
