// eval --task: how many questions of data sets a model answers rightly, alone or against another.
#pragma once

#include <string>
#include <vector>

#include "commands.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/json.h"
#include "ptq/model/linear.h"

namespace ptq {

// Measures `open` by the files of --task, and the model of --against if `reference` has one. `compute` is the
// first's. Throws Error as read_task() and encode_task() do, and a usage Error for options that do not fit.
Json eval_tasks(const EvalOptions& options, const CommonOptions& common, const OpenModel& open,
                const OpenModel& reference, const Compute& compute);

// For people.
std::string eval_tasks_text(const Json& json);

}  // namespace ptq
