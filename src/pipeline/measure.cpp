#include "pipeline/measure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "ptq/calibration/stream.h"
#include "ptq/export/runtimes.h"

namespace ptq {
namespace {

constexpr int64_t kLayerTokens = 512;   // for the layers' own errors
constexpr int64_t kBlockTokens = 2048;  // for the block's
constexpr double kLargestHalf = 65504;

// Keeps what arrives at every site: [windows, length, channels].
class Recorder : public Observer {
 public:
  void observe(const Site& site, const Tensor& x) override { values[site.name] = x.clone(); }
  std::map<std::string, Tensor> values;
};

double relative_error(const std::optional<double>& sqnr_db) {
  return sqnr_db && std::isfinite(*sqnr_db) ? std::pow(10, -*sqnr_db / 10) : 0;
}

// The weight's row under the layer's name, and what the layer's output lost.
LayerRow layer_row(const Linear& rewritten, const Linear& quantized, const Site& site, const Tensor& x) {
  LayerRow row = weight_row(rewritten.weight, quantized.weight);
  row.name = quantized.name;
  if (!x.defined()) return row;
  row.output_sqnr_db = sqnr_db(rewritten({.values = x}), quantized(site.quantizer(x)));
  row.relative_error = relative_error(row.output_sqnr_db);
  return row;
}

// What the static scale covers: a percentile that was measured, all of it, or neither.
std::optional<double> covered_percentile(double covered, const SiteStatistics& statistics) {
  for (const auto& [p, amax] : statistics.percentiles) {
    if (std::abs(amax - covered) <= 1e-6 * amax) return p;
  }
  if (covered >= statistics.abs_max * (1 - 1e-6)) return 1;
  return {};
}

SiteRow site_row(const std::string& prefix, const Site& site, const Tensor& x, const Statistics& statistics) {
  SiteRow row;
  row.name = prefix + ".sites." + site.name;
  row.kind = site.kind;
  row.quantizer = site.quantizer.kind_name();
  if (site.quantizer.kind != ActivationQuantizer::Kind::kNone) row.bits = site.quantizer.bits;
  row.transform = transform_text(site.transform);
  for (const TransformOp& stage : site.transform.stages) {
    const auto* rotation = std::get_if<BlockRotation>(&stage);
    if (rotation != nullptr) row.rotation_steps.push_back(rotation->steps);
  }
  if (!row.rotation_steps.empty()) row.orthogonality_error = site.transform.orthogonality_error();
  if (!x.defined()) {
    row.peak_before = row.peak_after = std::numeric_limits<double>::quiet_NaN();
    return row;
  }
  row.peak_after = x.abs().max().item<double>();
  const Tensor original = site.transform.apply_inverse(x);
  row.peak_before = (site.smooth.defined() ? original * site.smooth : original).abs().max().item<double>();
  const auto measured = statistics.find(site.name);
  if (measured != statistics.end() && measured->second.abs_max > 0) row.amax = measured->second.abs_max;
  if (site.quantizer.kind != ActivationQuantizer::Kind::kStatic) return row;
  const Tensor scale = site.quantizer.scale.to(x.device());
  const auto highest = static_cast<double>((int64_t{1} << (site.quantizer.bits - 1)) - 1);
  row.scale = scale.max().item<double>();
  // Past these the nearest code would be one that does not exist; there is one more below zero than above.
  const Tensor clipped = (x > scale * (highest + 0.5)).logical_or(x < scale * (-highest - 1.5));
  row.clipped_fraction = static_cast<double>(clipped.sum().item<int64_t>()) / static_cast<double>(x.numel());
  if (measured != statistics.end())
    row.percentile = covered_percentile(*row.scale * highest, measured->second);
  return row;
}

// An FP16 runtime would overflow there; said once, for the first site.
void warn_of_overflow(const SiteRow& row, Report& report) {
  const std::string tail = " would overflow in FP16";
  if (!(row.peak_before > kLargestHalf)) return;
  for (const std::string& warning : report.warnings) {
    if (warning.ends_with(tail)) return;
  }
  report.warnings.push_back(row.name + ": activations of the float model reach " +
                            format_number(row.peak_before, 0) + ", which" + tail);
}

// The first windows of x [windows, length, ...] that hold so many tokens, at least one.
Tensor first_windows(const Tensor& x, int64_t tokens) {
  const int64_t length = std::min(tokens, x.size(1));
  return x.slice(0, 0, std::clamp<int64_t>(tokens / length, 1, x.size(0)));
}

}  // namespace

LayerRow weight_row(const Weight& rewritten, const Weight& written) {
  LayerRow row;
  row.name = written.name;
  row.role = role_name(written.role);
  row.shape = written.sizes().vec();
  row.bits = static_cast<double>(at::elementSize(written.stored)) * 8;
  if (!written.quantized()) return row;
  const WeightScheme& scheme = written.quantized()->scheme;
  row.bits = scheme.bits;
  row.granularity = granularity_name(scheme.granularity);
  if (scheme.granularity == Granularity::kGroup) row.group = scheme.group;
  row.weight_sqnr_db = sqnr_db(rewritten.values(), written.values());
  return row;
}

void measure_sublayer(Sublayer& rewritten, Sublayer& quantized, const Tensor& inputs,
                      const Statistics& statistics, const std::map<std::string, CorrectionRow>& corrections,
                      Report& report) {
  Recorder recorder;
  if (inputs.defined()) {
    const Tensor some = first_windows(inputs, kLayerTokens).slice(1, 0, kLayerTokens);
    rewritten.forward(some, nullptr, &recorder);
    quantized.prepare();  // for its layers here, and for the block
  }
  const std::vector<Linear*> float_linears = rewritten.linears(), linears = quantized.linears();
  for (size_t i = 0; i < linears.size(); ++i) {
    report.layers.push_back(layer_row(*float_linears[i], *linears[i], quantized.site(linears[i]->site),
                                      recorder.values[linears[i]->site]));
    const auto correction = corrections.find(linears[i]->name);
    if (correction != corrections.end()) report.layers.back().correction = correction->second;
  }
  const std::vector<Weight*> float_weights = rewritten.weights(), weights = quantized.weights();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i]->role != Role::kLinear && weights[i]->quantized()) {
      report.layers.push_back(weight_row(*float_weights[i], *weights[i]));
    }
  }
  for (const Site* site : quantized.sites()) {
    if (!site->is_listed()) continue;
    report.sites.push_back(site_row(quantized.prefix, *site, recorder.values[site->name], statistics));
    warn_of_overflow(report.sites.back(), report);
  }
}

Tensor measured_windows(const Tensor& held_out) {
  return first_windows(held_out, kBlockTokens);
}

void measure_block(const Block& quantized, const Tensor& inputs, const Tensor& outputs, Report& report) {
  BlockRow row;
  row.index = static_cast<int64_t>(report.blocks.size());
  if (inputs.defined()) {
    const Tensor expected = outputs.slice(0, 0, inputs.size(0)), output = outputs_of(quantized, inputs);
    row.output_sqnr_db = sqnr_db(expected - inputs, output - inputs);
    row.relative_error = relative_error(row.output_sqnr_db);
    row.max_abs_error = (expected - output).abs().max().item<double>();
  } else {
    row.max_abs_error = std::numeric_limits<double>::quiet_NaN();
  }
  report.blocks.push_back(row);
}

void warn_of_better_bases(Report& report) {
  int64_t corrected = 0, beaten = 0;
  const LayerRow* example = nullptr;
  for (const LayerRow& row : report.layers) {
    if (!row.correction || row.correction->rank == 0) continue;
    ++corrected;
    if (!row.correction->better_base) continue;
    ++beaten;
    if (example == nullptr) example = &row;
  }
  if (beaten == 0) return;
  const CorrectionRow& row = *example->correction;
  report.warnings.push_back("in " + std::to_string(beaten) + " of " + std::to_string(corrected) +
                            " corrected layers a better base of no more bytes would leave less error, e.g. " +
                            example->name + ": " + row.better_base->format + " " +
                            format_number(row.better_base->energy / row.energy_before.value_or(1), 3) +
                            " of the uncorrected error, rank " + std::to_string(row.rank) + " " +
                            format_number(row.remaining(), 3));
}

std::vector<LoadsIn> programs_that_load(const OpenModel& written, const std::string& method) {
  std::vector<LoadsIn> all;
  for (const RuntimeEntry& runtime : runtimes()) {
    for (const RuntimeFit& fit : fits(runtime, written, method)) {
      if (fit.loads()) all.push_back({runtime.name, fit.format->name});
    }
  }
  return all;
}

}  // namespace ptq
