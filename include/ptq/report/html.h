// A report as one page for people.
#pragma once

#include <string>

#include "ptq/report/read_report.h"

namespace ptq {

// A whole HTML document that is well-formed XML too: style and plots are inline, nothing is loaded and no
// script runs. Every text of the report is escaped. It follows the reader's choice of light or dark.
std::string html_page(const StoredReport& report);

}  // namespace ptq
