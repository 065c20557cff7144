// Artifacts in NF4 as bitsandbytes stores it (bitsandbytes_config.h), which transformers and peft load: the
// artifact's codes and scales, so that the weights stand for the same values.
#include "export/bitsandbytes_source.h"
#include "export/hub_directory.h"
#include "export/rows.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

WeightScheme scheme_of(const Linear& linear) {
  const WeightScheme& scheme = linear.weight.quantized()->scheme;
  if (scheme.format != NumberFormat::kNf4) {
    throw Error(
        linear.name,
        std::string("is in codes of ") + number_format_name(scheme.format) + ", and bitsandbytes holds NF4",
        "--format compressed-tensors, gptq or awq, or --method qera --base nf4");
  }
  if (linear.weight.size(1) % kNf4Group != 0) {
    throw Error(linear.name,
                "has rows of " + std::to_string(linear.weight.size(1)) +
                    " values, and bitsandbytes has blocks of 64 that run over the ends of rows",
                "--format gguf, or --skip for this layer");
  }
  return nf4_scheme();
}

constexpr WeightsFormat kFormat = {kBitsandbytes, scheme_of, /*loads_ssm=*/true};

void add_codes(const Linear& linear, const char* dtype, SafetensorsSpool& spool) {
  const QuantizedTensor& q = *linear.weight.quantized();
  const std::string state = nf4_state_text(q.codes.size(0), q.codes.size(1), dtype);
  spool.add(linear.name + kWeight, pack_nf4(q.codes));
  spool.add(linear.name + kAbsmax, q.scale.reshape({-1}));
  spool.add(linear.name + kQuantMap, nf4_map());
  spool.add({linear.name + kQuantState, DType::kU8, {static_cast<int64_t>(state.size())}},
            std::as_bytes(std::span(state)));
}

ExportResult write(const OpenModel& artifact, const ExportTarget& target) {
  const WeightsPlan plan = plan_weights(artifact, kFormat);
  const char* dtype = dtype_text(model_dtype(*artifact.model));
  std::vector<std::string> in_float = linears_outside(*artifact.model);
  for (const std::string& name : plan.names_in_float()) in_float.push_back(name);
  return write_weights(
      artifact, target.output, plan, kFormat.name, nf4_config_json(in_float),
      [&](const Linear& linear, SafetensorsSpool& spool) { add_codes(linear, dtype, spool); });
}

}  // namespace

FormatEntry bitsandbytes_format() {
  FormatEntry entry{};
  entry.name = kBitsandbytes;
  entry.description = "weights in NF4, for transformers and peft";
  entry.output = "directory to write; an adapter of corrections goes beside it, as DIR-adapter";
  entry.suffix = "-bnb";
  entry.why_not = [](const OpenModel& artifact, const ExportTarget&) {
    return reason_against([&] { plan_weights(artifact, kFormat); });
  };
  entry.write = write;
  entry.is_at = [](const std::string& path) { return quant_method_at(path) == kBitsandbytes; };
  entry.open = open_bitsandbytes;
  entry.stored = [](const OpenModel& artifact) { return stored_weights(artifact, kFormat); };
  return entry;
}

}  // namespace ptq
