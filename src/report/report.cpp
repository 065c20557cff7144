#include "ptq/report/report.h"

#include <cmath>

namespace ptq {
namespace {

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}
Json number(const std::optional<double>& value) {
  return value ? number(*value) : Json(nullptr);
}

// Of all rows' relative errors, this row's part; null if there is no error at all.
template <typename Row>
Json error_share(const Row& row, const std::vector<Row>& rows) {
  double sum = 0;
  for (const Row& other : rows) sum += other.relative_error;
  return sum > 0 ? number(row.relative_error / sum) : Json(nullptr);
}

Json correction_json(const CorrectionRow& row) {
  Json better = nullptr;
  if (!row.better_base.empty()) {
    better = {{"format", row.better_base},
              {"bits_per_weight", number(row.better_base_bits)},
              {"energy", number(row.better_base_energy)}};
  }
  return {{"rank", row.rank},
          {"variant", row.variant},
          {"shrinkage", number(row.shrinkage)},
          {"rounds", row.rounds},
          {"stored", row.stored},
          {"bytes", row.bytes},
          {"bits_per_weight", number(row.bits_per_weight)},
          {"energy_before", number(row.energy_before)},
          {"energy_after", number(row.energy_after)},
          {"better_base", better}};
}

Json layer_json(const LayerRow& row, const std::vector<LayerRow>& rows) {
  return {{"name", row.name},
          {"role", row.role},
          {"shape", row.shape},
          {"bits", row.bits},
          {"granularity", row.granularity.empty() ? Json(nullptr) : Json(row.granularity)},
          {"group", row.group ? Json(*row.group) : Json(nullptr)},
          {"weight_sqnr_db", number(row.weight_sqnr_db)},
          {"output_sqnr_db", number(row.output_sqnr_db)},
          {"error_share", error_share(row, rows)},
          {"correction", row.correction ? correction_json(*row.correction) : Json(nullptr)}};
}

Json site_json(const SiteRow& row) {
  return {{"name", row.name},
          {"kind", row.kind},
          {"quantizer", row.quantizer},
          {"scale", number(row.scale)},
          {"percentile", number(row.percentile)},
          {"amax", number(row.amax)},
          {"clipped_fraction", number(row.clipped_fraction)},
          {"bits", row.bits ? Json(*row.bits) : Json(nullptr)},
          {"peak_before", number(row.peak_before)},
          {"peak_after", number(row.peak_after)},
          {"transform", row.transform.empty() ? Json(nullptr) : Json(row.transform)},
          {"rotation_steps", row.rotation_steps},
          {"orthogonality_error", number(row.orthogonality_error)}};
}

Json quality_json(const Quality& quality) {
  return {{"text", quality.text},
          {"tokens", quality.tokens},
          {"perplexity_float", number(quality.perplexity_float)},
          {"perplexity_quantized", number(quality.perplexity_quantized)},
          {"mean_kl", number(quality.mean_kl)},
          {"top1_agreement", number(quality.top1_agreement)}};
}

}  // namespace

Json to_json(const std::vector<Remark>& remarks) {
  Json list = Json::array();
  for (const Remark& remark : remarks)
    list.push_back({{"where", remark.where}, {"what", remark.what}, {"why", remark.why}});
  return list;
}

Json to_json(const Report& report) {
  Json layers = Json::array(), sites = Json::array(), blocks = Json::array();
  for (const LayerRow& row : report.layers) layers.push_back(layer_json(row, report.layers));
  for (const SiteRow& row : report.sites) sites.push_back(site_json(row));
  for (const BlockRow& row : report.blocks) {
    blocks.push_back({{"index", row.index},
                      {"output_sqnr_db", number(row.output_sqnr_db)},
                      {"max_abs_error", number(row.max_abs_error)},
                      {"error_share", error_share(row, report.blocks)}});
  }
  Json files = Json::object(), time_ms = Json::object();
  for (const auto& [name, bytes] : report.output_files) files[name] = bytes;
  for (const auto& [stage, elapsed_ms] : report.time_ms) time_ms[stage] = std::round(elapsed_ms * 10) / 10;
  return {{"schema_version", kReportSchemaVersion},
          {"program", report.program},
          {"source", report.source},
          {"recipe", report.recipe},
          {"calibration", report.calibration},
          {"layers", layers},
          {"sites", sites},
          {"blocks", blocks},
          {"fallbacks", to_json(report.fallbacks)},
          {"decisions", to_json(report.decisions)},
          {"quality", report.quality ? quality_json(*report.quality) : Json(nullptr)},
          {"output",
           {{"bytes", report.output_bytes},
            {"bits_per_weight", number(report.bits_per_weight)},
            {"correction_bytes", report.correction_bytes},
            {"bits_per_weight_without_correction", number(report.bits_per_weight_without_correction)},
            {"files", files}}},
          {"time_ms", time_ms},
          {"peak_rss_bytes", report.peak_rss_bytes},
          {"warnings", report.warnings}};
}

}  // namespace ptq
