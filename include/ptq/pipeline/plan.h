// What a run would do, without doing it.
#pragma once

#include "ptq/method/recipe.h"
#include "ptq/pipeline/run.h"
#include "ptq/report/plan.h"

namespace ptq {

// Opens what run() opens and takes every block through the recipe's steps on the meta device: shapes, schemes
// and bytes are those of a run, no weight is read and nothing is written. Throws the Errors that headers,
// options, configuration, texts and the output's path can show, with run()'s messages. Cost: some
// milliseconds a block, and the reading of --calib and --eval-text. `processes`: that would share the run.
Plan plan_run(const RunOptions& options, const Recipe& recipe, Progress& progress, int processes = 1);

// The output of such a run as formats see it before it is made: the model on the meta device, with the
// schemes, sites and corrections that the recipe gives its blocks. `recipe` must outlive it. Throws Error as
// plan_run() does for the model.
OpenModel planned_output(const RunOptions& options, const Recipe& recipe);

}  // namespace ptq
