// Small inline SVG plots over the blocks of a model. Colours are classes that the page's style defines.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ptq {

// The vertical range of one or more panels, with the ticks in it.
struct Axis {
  double low = 0;
  double high = 1;
  std::vector<std::pair<double, std::string>> ticks;  // value, label

  // From 0 at the bottom to 1 at the top; what is outside stays at the edge.
  double fraction(double value) const;
};

// An axis that covers all values, with round ticks.
Axis linear_axis(const std::vector<double>& values);
// The same for log10 of positive values: whole decades, labelled with the values themselves.
Axis decade_axis(const std::vector<double>& logarithms);

// One value of a panel.
struct Mark {
  size_t column = 0;
  double value = 0;
  std::optional<double> before{};  // a second value, drawn hollow and joined to the first
  std::string tooltip{};
  bool worst = false;  // drawn in the colour of a warning
};

enum class PanelStyle { kLine, kRange, kBars };

// A panel with a column for each of `blocks` (their indices). `label` says what it shows to a screen reader.
// Text is escaped here.
std::string panel(const std::vector<int64_t>& blocks, const std::vector<Mark>& marks, const Axis& axis,
                  PanelStyle style, const std::string& label);

// One row of cells for each name; `cells` are (row, mark), darker the nearer the value is to `most`.
std::string heat_map(const std::vector<int64_t>& blocks, const std::vector<std::string>& names,
                     const std::vector<std::pair<size_t, Mark>>& cells, double most,
                     const std::string& label);

}  // namespace ptq
