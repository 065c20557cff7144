#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/escape.h"

namespace ptq {
namespace {

// The units of a panel's view box; about a pixel each where it is shown.
constexpr double kWidth = 340, kHeight = 150, kLeft = 38, kRight = 8, kTop = 8, kBottom = 22;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;

// 1, 2 or 5 times a power of ten, at least `rough`.
double round_step(double rough) {
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) return factor * power;
  }
  return 10 * power;
}

// How many columns lie between two labels, so that at most `most` labels are needed.
size_t label_step(size_t columns, double most) {
  if (static_cast<double>(columns) <= most) return 1;
  return static_cast<size_t>(round_step(static_cast<double>(columns) / most));
}

// Values far from anything that is measured would leave ticks without precision.
double tame(double value) {
  return std::clamp(value, -1e6, 1e6);
}

double column_center(size_t column, size_t columns) {
  return kLeft + kPlotWidth * (static_cast<double>(column) + 0.5) / static_cast<double>(columns);
}

double row_of(const Axis& axis, double value) {
  return kTop + kPlotHeight * (1 - axis.fraction(value));
}

std::string grid(const Axis& axis, const std::vector<int64_t>& blocks) {
  std::string svg;
  for (const auto& [value, label] : axis.ticks) {
    const double y = row_of(axis, value);
    svg += fmt::format("<line class=\"grid\" x1=\"{:.0f}\" x2=\"{:.0f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>",
                       kLeft, kWidth - kRight, y, y);
    svg += fmt::format("<text class=\"tick\" x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                       kLeft - 5, y + 3.5, label);
  }
  const size_t step = label_step(blocks.size(), 8);
  for (size_t i = 0; i < blocks.size(); i += step) {
    svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.0f}\" text-anchor=\"middle\">{}</text>",
                       column_center(i, blocks.size()), kHeight - 6, blocks[i]);
  }
  return svg;
}

std::string dots(const Mark& mark, double x, const Axis& axis, double radius) {
  const double y = row_of(axis, mark.value);
  const char* const worst = mark.worst ? " worst" : "";
  std::string svg;
  if (mark.before) {
    const double from = row_of(axis, *mark.before);
    svg += fmt::format("<line class=\"join\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\"/>",
                       x, from, y);
    svg +=
        fmt::format("<circle class=\"before\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"/>", x, from, radius);
  }
  return svg + fmt::format("<circle class=\"dot{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"/>", worst, x, y,
                           mark.worst ? radius + 1 : radius);
}

std::string bar(const Mark& mark, double x, double width, const Axis& axis) {
  const double top = row_of(axis, mark.value), bottom = kTop + kPlotHeight;
  return fmt::format("<rect class=\"bar{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
                     mark.worst ? " worst" : "", x - width / 2, top, width, std::max(bottom - top, 0.5));
}

// The end of a long name: it tells more than the beginning.
std::string shortened(const std::string& name, size_t most) {
  if (name.size() <= most) return name;
  size_t begin = name.size() - most + 3;
  while (begin < name.size() && (static_cast<unsigned char>(name[begin]) & 0xC0) == 0x80) ++begin;
  return "..." + name.substr(begin);
}

}  // namespace

double Axis::fraction(double value) const {
  if (!(high > low)) return 0.5;
  return std::clamp((tame(value) - low) / (high - low), 0.0, 1.0);
}

Axis linear_axis(const std::vector<double>& values) {
  Axis axis;
  if (values.empty()) return axis;
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const double low = tame(*least), high = std::max(tame(*most), low + 1e-3);
  const double step = round_step((high - low) / 4);
  axis.low = std::floor(low / step) * step;
  axis.high = std::ceil(high / step) * step;
  const auto digits = static_cast<int>(std::max(0.0, -std::floor(std::log10(step))));
  const auto count = static_cast<int>(std::lround((axis.high - axis.low) / step));
  for (int i = 0; i <= count; ++i) {
    const double value = axis.low + i * step;
    axis.ticks.emplace_back(value, fmt::format("{:.{}f}", value, digits));
  }
  return axis;
}

Axis decade_axis(const std::vector<double>& logarithms) {
  Axis axis;
  if (logarithms.empty()) return axis;
  const auto [least, most] = std::minmax_element(logarithms.begin(), logarithms.end());
  axis.low = std::floor(tame(*least));
  axis.high = std::max(std::ceil(tame(*most)), axis.low + 1);
  const double step = std::max(1.0, std::ceil((axis.high - axis.low) / 5));
  for (double exponent = axis.low; exponent <= axis.high; exponent += step)
    axis.ticks.emplace_back(exponent, fmt::format("{:g}", std::pow(10, exponent)));
  return axis;
}

std::string panel(const std::vector<int64_t>& blocks, const std::vector<Mark>& marks, const Axis& axis,
                  PanelStyle style, const std::string& label) {
  const double pitch = kPlotWidth / static_cast<double>(std::max<size_t>(blocks.size(), 1));
  std::string svg =
      fmt::format("<svg class=\"panel\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">",
                  kWidth, kHeight, escape_markup(label)) +
      grid(axis, blocks);
  if (style == PanelStyle::kLine) {
    std::string points;
    for (const Mark& mark : marks) {
      points +=
          fmt::format("{:.1f},{:.1f} ", column_center(mark.column, blocks.size()), row_of(axis, mark.value));
    }
    svg += "<polyline class=\"trace\" points=\"" + points + "\"/>";
  }
  for (const Mark& mark : marks) {
    const double x = column_center(mark.column, blocks.size());
    svg += "<g><title>" + escape_markup(mark.tooltip) + "</title>";
    // The whole column answers to the pointer, not the dot alone.
    svg += fmt::format("<rect class=\"hit\" x=\"{:.1f}\" y=\"{:.0f}\" width=\"{:.1f}\" height=\"{:.0f}\"/>",
                       x - pitch / 2, kTop, pitch, kPlotHeight);
    svg += style == PanelStyle::kBars ? bar(mark, x, std::clamp(pitch * 0.7, 1.0, 26.0), axis)
                                      : dots(mark, x, axis, std::clamp(pitch * 0.3, 1.4, 3.4));
    svg += "</g>";
  }
  return svg + "</svg>";
}

std::string heat_map(const std::vector<int64_t>& blocks, const std::vector<std::string>& names,
                     const std::vector<std::pair<size_t, Mark>>& cells, double most,
                     const std::string& label) {
  constexpr double kNames = 150, kRow = 20, kAbove = 18;
  const double pitch =
      std::clamp(760.0 / static_cast<double>(std::max<size_t>(blocks.size(), 1)), 10.0, 44.0);
  const double width = kNames + pitch * static_cast<double>(blocks.size());
  const double height = kAbove + kRow * static_cast<double>(names.size());
  std::string svg = fmt::format(
      "<svg class=\"heat\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" "
      "aria-label=\"{2}\">",
      width, height, escape_markup(label));
  const size_t step = label_step(blocks.size(), static_cast<double>(blocks.size()) * pitch / 28);
  for (size_t i = 0; i < blocks.size(); i += step) {
    svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"12\" text-anchor=\"middle\">{}</text>",
                       kNames + pitch * (static_cast<double>(i) + 0.5), blocks[i]);
  }
  for (size_t r = 0; r < names.size(); ++r) {
    svg += fmt::format("<text class=\"name\" x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
                       kNames - 8, kAbove + kRow * (static_cast<double>(r) + 0.68),
                       escape_markup(shortened(names[r], 24)));
  }
  for (const auto& [row, mark] : cells) {
    svg += fmt::format(
        "<rect class=\"cell\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
        "fill-opacity=\"{:.3f}\"><title>{}</title></rect>",
        kNames + pitch * static_cast<double>(mark.column) + 0.5,
        kAbove + kRow * static_cast<double>(row) + 0.5, pitch - 1, kRow - 1,
        most > 0 ? std::clamp(0.06 + 0.94 * mark.value / most, 0.06, 1.0) : 0.06,
        escape_markup(mark.tooltip));
  }
  return svg + "</svg>";
}

}  // namespace ptq
