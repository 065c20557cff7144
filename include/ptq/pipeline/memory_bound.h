// Runs that are to keep below a bound of memory.
#pragma once

#include "ptq/pipeline/plan.h"

namespace ptq {

struct BoundedRun {
  RunOptions options;
  Plan plan;  // of a run with them
};

// The run with what it must to need no more than `max_bytes` of resident memory by plan_run()'s estimate:
// where the hidden states do not fit, they lie in a file beside the output. Throws Error with both numbers
// if that is not enough, and what plan_run() throws. `processes`: that would share the run, where `options`
// have none.
BoundedRun within_memory(const RunOptions& options, const Recipe& recipe, int64_t max_bytes,
                         Progress& progress, int processes = 1);

}  // namespace ptq
