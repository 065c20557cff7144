// The parts of html_page(): each is a <section>, or "" if the report has nothing for it.
#pragma once

#include <string>

#include "ptq/report/report.h"

namespace ptq {

// The page's <style>.
std::string html_style();

// What one looks at first: perplexity, divergence, size, the worst layer, time and memory.
std::string cards_section(const Report& report);
// Fallbacks and warnings.
std::string remarks_section(const Report& report);

// The output SQNR of every layer, a plot for each kind.
std::string layers_section(const Report& report);
// Where the error comes from: kinds, blocks, single layers.
std::string error_section(const Report& report);
// Low-rank terms.
std::string corrections_section(const Report& report);
// The largest activation of every site, before and after the rewrites.
std::string sites_section(const Report& report);

std::string recipe_section(const Report& report);
// Time by stage, files, source, program.
std::string costs_section(const Report& report);

// Of a value that may be missing: "-", or "19.6" with `digits` digits.
std::string number_or_dash(const std::optional<double>& value, int digits);

// A name, escaped, that may be broken across lines after its dots.
std::string breakable(const std::string& name);

}  // namespace ptq
