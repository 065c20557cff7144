// Exports that a run writes at its end.
#pragma once

#include <string>
#include <vector>

#include "commands.h"
#include "ptq/export/formats.h"
#include "ptq/pipeline/run.h"

namespace ptq {

struct ExportOfRun {
  const FormatEntry* format;
  ExportTarget target;
};

// Of --format, each with its default options, beside the run's output: OUTPUT and the format's suffix. Throws
// a usage Error for a format that is not known or is named twice, and an Error if something lies there, or
// the format does not hold what the recipe will make, as far as schemes and shapes tell.
std::vector<ExportOfRun> exports_of_run(const std::vector<std::string>& formats, const RunOptions& options,
                                        const Recipe& recipe);

}  // namespace ptq
