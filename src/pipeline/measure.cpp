#include "pipeline/measure.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

constexpr int64_t kLayerRows = 4;  // rows for the layers' own errors; the block's is over all rows kept aside

// Keeps what arrives at a site.
class Recorder : public Observer {
 public:
  void observe(const Tensor& x) override { values = x.clone(); }
  Tensor values;
};

// What arrives at every site of the float block, after its transform: [rows, length, channels].
std::map<std::string, Tensor> record_sites(Block& block, const Tensor& inputs) {
  std::map<std::string, Recorder> recorders;
  for (Site* site : block.sites()) site->observer = &recorders[site->name];
  block.forward(inputs);
  std::map<std::string, Tensor> values;
  for (Site* site : block.sites()) {
    site->observer = nullptr;
    values[site->name] = recorders[site->name].values;
  }
  return values;
}

// The weight's row under the layer's name, and what the layer's output lost.
LayerRow layer_row(const Linear& rewritten, const Linear& quantized, const Site& site, const Tensor& x) {
  LayerRow row = weight_row(rewritten.weight, quantized.weight);
  row.name = quantized.name;
  row.output_sqnr_db = sqnr_db(rewritten({x, {}}), quantized(site.quantizer(x)));
  return row;
}

SiteRow site_row(const std::string& prefix, const Site& site, const Tensor& x, const Statistics& statistics) {
  SiteRow row;
  row.name = prefix + ".sites." + site.name;
  row.kind = site.kind;
  row.quantizer = site.quantizer.kind_name();
  const auto measured = statistics.find(site.name);
  if (measured != statistics.end()) row.amax = measured->second.abs_max;
  if (site.quantizer.kind != ActivationQuantizer::Kind::kStatic) return row;
  const double scale = site.quantizer.scale.item<double>();
  row.scale = scale;
  const double high = scale * 127.5;  // past this the nearest code would be one that does not exist
  row.clipped_fraction =
      static_cast<double>((x.abs() > high).sum().item<int64_t>()) / static_cast<double>(x.numel());
  if (measured == statistics.end()) return row;
  if (scale * 127 >= *row.amax * (1 - 1e-6)) row.percentile = 1;
  for (const auto& [p, amax] : measured->second.percentiles) {
    if (std::abs(amax - scale * 127) <= 1e-6 * amax) row.percentile = p;
  }
  return row;
}

}  // namespace

LayerRow weight_row(const Weight& rewritten, const Weight& written) {
  LayerRow row;
  row.name = written.name;
  row.role = role_name(written.role);
  row.shape = written.value.sizes().vec();
  row.bits = static_cast<double>(at::elementSize(written.stored)) * 8;
  if (!written.quantized) return row;
  const WeightScheme& scheme = written.quantized->scheme;
  row.bits = scheme.bits;
  row.granularity = granularity_name(scheme.granularity);
  if (scheme.granularity == Granularity::kGroup) row.group = scheme.group;
  row.weight_sqnr_db = sqnr_db(rewritten.value, written.value);
  return row;
}

void measure_block(Block& rewritten, Block& quantized, const Tensor& inputs, const Tensor& outputs,
                   const Statistics& statistics, Report& report) {
  const int64_t rows = std::min(kLayerRows, inputs.size(0));
  const std::map<std::string, Tensor> values = record_sites(rewritten, inputs.slice(0, 0, rows));
  const std::vector<Linear*> float_linears = rewritten.linears(), linears = quantized.linears();
  for (size_t i = 0; i < linears.size(); ++i) {
    report.layers.push_back(layer_row(*float_linears[i], *linears[i], quantized.site(linears[i]->site),
                                      values.at(linears[i]->site)));
  }
  const std::vector<Weight*> float_weights = rewritten.weights(), weights = quantized.weights();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i]->role != Role::kLinear && weights[i]->quantized) {
      report.layers.push_back(weight_row(*float_weights[i], *weights[i]));
    }
  }
  for (const Site* site : quantized.sites()) {
    report.sites.push_back(site_row(quantized.prefix(), *site, values.at(site->name), statistics));
  }
  const Tensor output = run_block(quantized, inputs);
  BlockRow row;
  row.index = static_cast<int64_t>(report.blocks.size());
  row.output_sqnr_db = sqnr_db(outputs - inputs, output - inputs);
  row.max_abs_error = (outputs - output).abs().max().item<double>();
  report.blocks.push_back(row);
}

}  // namespace ptq
