// The parts of the page about layers and sites: plots over the blocks.
#include <fmt/format.h>

#include <cmath>

#include "report/arrange.h"
#include "report/escape.h"
#include "report/html_parts.h"
#include "report/plot.h"

namespace ptq {
namespace {

// More would be a page that nobody reads; what is left out is counted.
constexpr size_t kMostPanels = 40, kMostCells = 20'000, kMostRows = 15;

std::string left_out(size_t count, size_t most, const char* what) {
  return count <= most
             ? ""
             : fmt::format("<p class=\"note\">{} more {} are in the report.</p>\n", count - most, what);
}

std::string panel_with_title(const std::string& title, const std::string& note, const std::string& svg) {
  return "<div><h3>" + escape_markup(title) + "</h3><p class=\"note\">" + note + "</p>" + svg + "</div>\n";
}

std::string layer_tooltip(const LayerRow& layer) {
  return fmt::format("{}: output SQNR {} dB, weight SQNR {} dB, {} bits, {:.2f} % of the error", layer.name,
                     number_or_dash(layer.output_sqnr_db, 1), number_or_dash(layer.weight_sqnr_db, 1),
                     layer.bits, layer.relative_error * 100);
}

std::string sqnr_panel(const std::vector<int64_t>& blocks, const Kind<LayerRow>& kind, const Axis& axis,
                       double worst_db) {
  std::vector<Mark> marks;
  std::vector<double> values;
  for (const auto& [column, layer] : kind.entries) {
    const double value = *layer->output_sqnr_db;
    marks.push_back({column, value, {}, layer_tooltip(*layer), value == worst_db});
    values.push_back(value);
  }
  std::sort(values.begin(), values.end());
  const std::string note =
      fmt::format("worst {:.1f} dB, median {:.1f} dB", values.front(), values[values.size() / 2]);
  return panel_with_title(kind.name, note,
                          panel(blocks, marks, axis, PanelStyle::kLine, "output SQNR of " + kind.name));
}

// What matters most comes first: a phone shows the left part of a table.
std::string kinds_rows(const Report& report) {
  const std::vector<KindSummary> kinds = summarize_kinds(report.layers);
  std::string rows;
  for (size_t i = 0; i < std::min(kinds.size(), kMostPanels); ++i) {
    const KindSummary& kind = kinds[i];
    std::string bits = format_number(kind.least_bits, 0);
    if (kind.most_bits > kind.least_bits) bits += "-" + format_number(kind.most_bits, 0);
    rows += fmt::format(
        "<tr><td class=\"wrap\">{}</td><td>{:.1f} %</td><td class=\"meter\"><span class=\"track\"><span "
        "style=\"width: {:.1f}%\"></span></span></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        breakable(kind.name), kind.error_share * 100, std::clamp(kind.error_share, 0.0, 1.0) * 100,
        number_or_dash(kind.least_sqnr_db, 1), number_or_dash(kind.median_sqnr_db, 1), bits, kind.layers);
  }
  return "<div class=\"wide\"><table><tr><th>kind of layer</th><th>error</th><th></th><th>worst "
         "dB</th><th>median dB</th><th>bits</th><th>layers</th></tr>\n" +
         rows + "</table></div>\n" + left_out(kinds.size(), kMostPanels, "kinds of layers");
}

std::string error_map(const Report& report) {
  const auto layers = arrange(report.layers, [](const LayerRow& row) { return row.relative_error > 0; });
  std::vector<std::string> names;
  std::vector<std::pair<size_t, Mark>> cells;
  double most = 0;
  for (const auto& kind : layers.kinds) {
    if (names.size() == kMostPanels) break;
    names.push_back(kind.name);
    for (const auto& [column, layer] : kind.entries) {
      if (cells.size() == kMostCells) break;
      cells.push_back({names.size() - 1, {column, layer->relative_error, {}, layer_tooltip(*layer), false}});
      most = std::max(most, layer->relative_error);
    }
  }
  if (cells.empty()) return "";
  return fmt::format(
             "<h3>By layer and block</h3><p class=\"note\">The strongest cell is {:.1f} % of the "
             "error.</p>\n",
             most * 100) +
         "<div class=\"wide\">" +
         heat_map(layers.blocks, names, cells, most, "share of the error of each layer") + "</div>\n" +
         left_out(layers.kinds.size(), kMostPanels, "kinds of layers");
}

std::string block_panels(const Report& report) {
  if (report.blocks.empty()) return "";
  std::vector<int64_t> indices;
  std::vector<Mark> sqnr, shares;
  std::vector<double> sqnr_values, share_values = {0};
  const size_t count = std::min(report.blocks.size(), kMostCells);
  for (size_t i = 0; i < count; ++i) {
    const BlockRow& block = report.blocks[i];
    indices.push_back(block.index);
    const std::string tooltip =
        fmt::format("block {}: output SQNR {} dB, {:.2f} % of the error, largest error {}", block.index,
                    number_or_dash(block.output_sqnr_db, 1), block.relative_error * 100,
                    number_or_dash(block.max_abs_error, 4));
    shares.push_back({i, block.relative_error * 100, {}, tooltip, false});
    share_values.push_back(block.relative_error * 100);
    if (!block.output_sqnr_db) continue;
    sqnr.push_back({i, *block.output_sqnr_db, {}, tooltip, false});
    sqnr_values.push_back(*block.output_sqnr_db);
  }
  return "<div class=\"panels\">\n" +
         panel_with_title("Share of each block", "per cent of the error that the blocks add",
                          panel(indices, shares, linear_axis(share_values), PanelStyle::kBars,
                                "share of the error of each block")) +
         panel_with_title(
             "Output SQNR of each block", "dB, of what the block adds to the residual stream",
             panel(indices, sqnr, linear_axis(sqnr_values), PanelStyle::kLine, "output SQNR of each block")) +
         "</div>\n";
}

std::string worst_layers(const Report& report) {
  std::vector<const LayerRow*> rows;
  for (const LayerRow& layer : report.layers) {
    if (layer.output_sqnr_db) rows.push_back(&layer);
  }
  if (rows.empty()) return "";
  const size_t shown = std::min(rows.size(), kMostRows);
  std::partial_sort(
      rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(shown), rows.end(),
      [](const LayerRow* a, const LayerRow* b) { return *a->output_sqnr_db < *b->output_sqnr_db; });
  std::string html =
      "<h3>The worst layers</h3>\n<div class=\"wide\"><table><tr><th>layer</th><th>output "
      "dB</th><th>error</th><th>weight dB</th><th>bits</th></tr>\n";
  for (size_t i = 0; i < shown; ++i) {
    html +=
        fmt::format("<tr><td class=\"wrap\">{}</td><td>{}</td><td>{:.2f} %</td><td>{}</td><td>{}</td></tr>\n",
                    breakable(rows[i]->name), number_or_dash(rows[i]->output_sqnr_db, 1),
                    rows[i]->relative_error * 100, number_or_dash(rows[i]->weight_sqnr_db, 1), rows[i]->bits);
  }
  return html + "</table></div>\n";
}

std::string correction_row(const LayerRow& layer) {
  const CorrectionRow& correction = *layer.correction;
  const auto energy = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.4g}", *value) : std::string("-");
  };
  std::string removed = "-";
  if (correction.energy_before && correction.energy_after && *correction.energy_before > 0)
    removed = fmt::format("{:.1f} %", (1 - *correction.energy_after / *correction.energy_before) * 100);
  return fmt::format(
      "<tr><td class=\"wrap\">{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td>"
      "<td>{}</td></tr>\n",
      breakable(layer.name), escape_markup(correction.variant), correction.rank,
      energy(correction.energy_before), energy(correction.energy_after), removed);
}

bool has_peaks(const SiteRow& site) {
  return site.peak_before > 0 && site.peak_after > 0 && std::isfinite(site.peak_before) &&
         std::isfinite(site.peak_after);
}

std::string site_tooltip(const SiteRow& site) {
  std::string text = fmt::format("{}: largest |x| {:.4g} before, {:.4g} after", site.name, site.peak_before,
                                 site.peak_after);
  if (!site.transform.empty()) text += ", " + site.transform;
  text += site.bits ? fmt::format("; {}, {} bits", site.quantizer, *site.bits) : "; " + site.quantizer;
  if (site.clipped_fraction) text += fmt::format(", {:.3g} % clipped", *site.clipped_fraction * 100);
  return text;
}

std::string site_panel(const std::vector<int64_t>& blocks, const Kind<SiteRow>& kind, const Axis& axis) {
  std::vector<Mark> marks;
  double before = 0, after = 0;
  for (const auto& [column, site] : kind.entries) {
    Mark mark{column, std::log10(site->peak_after), {}, site_tooltip(*site), false};
    if (site->peak_before != site->peak_after) mark.before = std::log10(site->peak_before);
    marks.push_back(mark);
    before = std::max(before, site->peak_before);
    after = std::max(after, site->peak_after);
  }
  const std::string note = before == after ? fmt::format("largest {:.3g}", after)
                                           : fmt::format("largest {:.3g} &#8594; {:.3g}", before, after);
  return panel_with_title(kind.name, note,
                          panel(blocks, marks, axis, PanelStyle::kRange, "activation range of " + kind.name));
}

}  // namespace

std::string layers_section(const Report& report) {
  const auto layers =
      arrange(report.layers, [](const LayerRow& row) { return row.output_sqnr_db.has_value(); });
  if (layers.kinds.empty()) return "";
  std::vector<double> values;
  for (const auto& kind : layers.kinds) {
    for (const auto& entry : kind.entries) values.push_back(*entry.row->output_sqnr_db);
  }
  const double worst = *std::min_element(values.begin(), values.end());
  const Axis axis = linear_axis(values);
  std::string html =
      "<section>\n<h2>Output error of each layer</h2>\n<p>Signal over noise of a layer's output, dB, against "
      "the "
      "index of the block; higher is better. <span class=\"key worst\"></span>the worst of all layers</p>\n"
      "<div class=\"panels\">\n";
  for (size_t i = 0; i < std::min(layers.kinds.size(), kMostPanels); ++i)
    html += sqnr_panel(layers.blocks, layers.kinds[i], axis, worst);
  return html + "</div>\n" + left_out(layers.kinds.size(), kMostPanels, "kinds of layers") + "</section>\n";
}

std::string error_section(const Report& report) {
  return "<section>\n<h2>Where the error comes from</h2>\n<p>A layer's share is its noise over signal, as a "
         "part "
         "of the sum over all layers.</p>\n" +
         kinds_rows(report) + error_map(report) + block_panels(report) + worst_layers(report) +
         "</section>\n";
}

std::string corrections_section(const Report& report) {
  std::vector<const LayerRow*> layers;
  for (const LayerRow& layer : report.layers) {
    if (layer.correction) layers.push_back(&layer);
  }
  if (layers.empty()) return "";
  std::stable_sort(layers.begin(), layers.end(), [](const LayerRow* a, const LayerRow* b) {
    return a->correction->energy_after.value_or(0) > b->correction->energy_after.value_or(0);
  });
  std::string html =
      "<section>\n<h2>Low-rank corrections</h2>\n<p>Energy of the error of a layer's output without and with "
      "its low-rank term; what is left most comes first.</p>\n<div class=\"wide\"><table><tr><th>layer</th>"
      "<th class=\"text\">variant</th><th>rank</th><th>before</th><th>after</th><th>removed</th></tr>\n";
  for (size_t i = 0; i < std::min(layers.size(), kMostRows); ++i) html += correction_row(*layers[i]);
  return html + "</table></div>\n" + left_out(layers.size(), kMostRows, "corrected layers") + "</section>\n";
}

std::string sites_section(const Report& report) {
  const auto sites = arrange(report.sites, has_peaks);
  if (sites.kinds.empty()) return "";
  std::vector<double> logarithms;
  for (const auto& kind : sites.kinds) {
    for (const auto& entry : kind.entries) {
      logarithms.push_back(std::log10(entry.row->peak_before));
      logarithms.push_back(std::log10(entry.row->peak_after));
    }
  }
  const Axis axis = decade_axis(logarithms);
  std::string html =
      "<section>\n<h2>Activation ranges</h2>\n<p>The largest absolute value at each site, on the rows kept "
      "aside, "
      "on a logarithmic scale: <span class=\"key before\"></span>before the rewrites, <span "
      "class=\"key\"></span>after them (the only mark where nothing changed).</p>\n<div class=\"panels\">\n";
  for (size_t i = 0; i < std::min(sites.kinds.size(), kMostPanels); ++i)
    html += site_panel(sites.blocks, sites.kinds[i], axis);
  return html + "</div>\n" + left_out(sites.kinds.size(), kMostPanels, "kinds of sites") + "</section>\n";
}

}  // namespace ptq
