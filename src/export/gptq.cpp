// Artifacts as GPTQ and AWQ (gptq_config.h), which vLLM, SGLang, GPTQModel and transformers load.
//
// Codes are the artifact's. Scales become float16, the one dtype that all of them read, and the result says
// what that cost where the artifact's are no float16 numbers. GPTQ is written in its first version, which has
// no place for a zero point of 0, so it gets symmetric codes alone; AWQ has zero points and 4 bits, and
// symmetric codes with a zero point of 8.
#include <algorithm>
#include <limits>

#include "export/gptq_source.h"
#include "export/gptq_words.h"
#include "export/hub_directory.h"
#include "export/rows.h"
#include "export/weights_plan.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr int64_t kWordsOfFields = 32;  // fields of any width fill words then

// Of either format.
WeightScheme scheme_of(const Linear& linear, const char* format) {
  WeightScheme scheme = integers_of(linear, format);
  if (scheme.granularity == Granularity::kTensor) scheme.granularity = Granularity::kChannel;
  for (const int64_t size : {linear.weight.size(0), linear.weight.size(1)}) {
    if (size % kWordsOfFields == 0) continue;
    throw Error(linear.name,
                "has shape [" + std::to_string(linear.weight.size(0)) + ", " +
                    std::to_string(linear.weight.size(1)) + "], and " + format + " needs multiples of 32",
                "--format compressed-tensors, or --skip for this layer");
  }
  return scheme;
}

void expect_bits(const Linear& linear, const WeightScheme& scheme, bool held, const char* format,
                 const char* which) {
  if (held) return;
  throw Error(linear.name,
              "is in " + std::to_string(scheme.bits) + " bits, and " + format + " is loaded in " + which,
              "--format compressed-tensors, or other bits when quantizing");
}

WeightScheme gptq_scheme(const Linear& linear) {
  const WeightScheme scheme = scheme_of(linear, "GPTQ");
  expect_bits(linear, scheme, scheme.bits == 4 || scheme.bits == 8, "GPTQ", "4 and 8");
  if (scheme.symmetric) return scheme;
  throw Error(
      linear.name,
      "has zero points: the version of GPTQ that everybody loads stores them less 1, so that one of 0 "
      "is lost",
      scheme.bits == 4 ? "--format awq or compressed-tensors, or --set gptq.symmetric=true when quantizing"
                       : "--format compressed-tensors, or --set gptq.symmetric=true when quantizing");
}

WeightScheme awq_scheme(const Linear& linear) {
  WeightScheme scheme = scheme_of(linear, "AWQ");
  expect_bits(linear, scheme, scheme.bits == 4, "AWQ", "4");
  scheme.symmetric = false;  // programs differ in what they make of a checkpoint without zero points
  return scheme;
}

constexpr WeightsFormat kGptqFormat = {"GPTQ", gptq_scheme, /*loads_ssm=*/false};
constexpr WeightsFormat kAwqFormat = {"AWQ", awq_scheme, /*loads_ssm=*/false};

// Scales in float16; `db` becomes what that costs, if it is less.
void halve_scales(QuantizedTensor& q, const std::string& name, double& db) {
  const Tensor exact = q.scale, half = exact.to(at::kHalf).to(at::kFloat), lost = half == 0;
  QuantizedTensor of_lost = q;
  of_lost.scale = lost.to(at::kFloat);
  const bool some_lost = lost.any().item<bool>() && dequantize(of_lost).any().item<bool>();
  if (some_lost || !at::isfinite(half).all().item<bool>()) {
    throw Error(name, "has scales that float16 does not hold, in which this format stores them",
                "--format compressed-tensors");
  }
  const Tensor values = dequantize(q);
  q.scale = half.masked_fill(lost, 0x1p-14);  // of zeros alone, by which loaders divide
  if (!at::equal(half, exact)) db = std::min(db, sqnr_db(values, dequantize(q)));
}

void add_codes(const Linear& linear, const GptqConfig& config, SafetensorsSpool& spool, double& scales_db) {
  QuantizedTensor q = *linear.weight.quantized();
  const bool has_zeros = !q.scheme.symmetric;
  WeightScheme scheme = config.scheme;
  scheme.symmetric = !has_zeros;
  q = fitted(q, scheme);
  replace_zero_scales(q);
  halve_scales(q, linear.name, scales_db);
  const Tensor zeros = has_zeros ? q.zero : at::zeros_like(q.scale, at::kChar);
  spool.add(linear.name + kQweight, pack_qweight(q.codes, scheme.bits, config.layout));
  spool.add(linear.name + kQzeros, pack_qzeros(zeros, scheme.bits, config.layout));
  spool.add(linear.name + kScales, q.scale.t().contiguous().to(at::kHalf));
  if (config.layout != GptqLayout::kAwq) {
    const int64_t in = q.codes.size(1);
    const int64_t group = scheme.granularity == Granularity::kGroup ? scheme.group : in;
    spool.add(linear.name + kGroupOfColumn, at::arange(in, at::kLong).floor_divide(group).to(at::kInt));
  }
}

// With which layers are in float, where some are: GPTQ names those that are not.
Json quantization_config(const GptqConfig& config, const WeightsPlan& plan) {
  Json json = gptq_config_json(config);
  const bool any =
      std::any_of(plan.linears.begin(), plan.linears.end(), [](const auto& l) { return !l.second; });
  if (!any) return json;
  if (config.layout == GptqLayout::kAwq) {
    json["modules_to_not_convert"] = plan.names_in_float();
  } else {
    json["modules_in_block_to_quantize"] = Json::array({plan.names_in_codes()});
  }
  return json;
}

ExportResult write(const OpenModel& artifact, const ExportTarget& target, const WeightsFormat& format,
                   GptqLayout layout) {
  const WeightsPlan plan = plan_weights(artifact, format);
  const GptqConfig config{layout, plan.scheme};
  constexpr double kExact = std::numeric_limits<double>::infinity();
  double scales_db = kExact;  // of the layer that float16 scales cost most
  ExportResult result = write_weights(
      artifact, target.output, plan, format.name, quantization_config(config, plan),
      [&](const Linear& linear, SafetensorsSpool& spool) { add_codes(linear, config, spool, scales_db); });
  result.json["scales_sqnr_db"] = scales_db == kExact ? Json(nullptr) : Json(scales_db);
  if (scales_db != kExact)
    result.text +=
        "  scales rounded to float16, at " + std::to_string(scales_db).substr(0, 5) + " dB or more\n";
  return result;
}

// One of the two rows.
FormatEntry directory_of_codes() {
  FormatEntry entry{};
  entry.output = "directory to write; an adapter of corrections goes beside it, as DIR-adapter";
  entry.open = open_gptq;
  return entry;
}

}  // namespace

FormatEntry gptq_format() {
  FormatEntry entry = directory_of_codes();
  entry.name = kGptqMethod;
  entry.description = "symmetric weights in 4 or 8 bits, for vLLM, SGLang, GPTQModel and transformers";
  entry.suffix = "-gptq";
  entry.why_not = [](const OpenModel& artifact, const ExportTarget&) {
    return reason_against([&] { plan_weights(artifact, kGptqFormat); });
  };
  entry.write = [](const OpenModel& artifact, const ExportTarget& target) {
    return write(artifact, target, kGptqFormat, GptqLayout::kGptqV1);
  };
  entry.is_at = is_gptq_at;
  entry.stored = [](const OpenModel& artifact) { return stored_weights(artifact, kGptqFormat); };
  return entry;
}

FormatEntry awq_format() {
  FormatEntry entry = directory_of_codes();
  entry.name = kAwqMethod;
  entry.description = "weights in 4 bits with zero points, for vLLM, SGLang, GPTQModel and transformers";
  entry.suffix = "-awq";
  entry.why_not = [](const OpenModel& artifact, const ExportTarget&) {
    return reason_against([&] { plan_weights(artifact, kAwqFormat); });
  };
  entry.write = [](const OpenModel& artifact, const ExportTarget& target) {
    return write(artifact, target, kAwqFormat, GptqLayout::kAwq);
  };
  entry.is_at = [](const std::string& path) { return quant_method_at(path) == kAwqMethod; };
  entry.stored = [](const OpenModel& artifact) { return stored_weights(artifact, kAwqFormat); };
  return entry;
}

}  // namespace ptq
