// quantize plan MODEL: what a run with the same options would do and cost.
#include "exports_of_run.h"
#include "ptq/pipeline/memory_bound.h"
#include "runtimes_of_run.h"

namespace ptq {

void plan_command(const QuantizeOptions& options, const CommonOptions& common) {
  const Recipe recipe = recipe_of_run(options, common);
  if (options.print_recipe) {
    print(recipe.to_json().dump(2) + "\n");
    return;
  }
  const RunOptions run_options = options_of_run(options, common, recipe);
  exports_of_run(options.formats, run_options, recipe);  // which refuses what a run would
  const std::vector<RuntimeAnswer> answers = answers_of_run(options.runtimes, run_options, recipe);
  Progress progress(common.status_line, ProgressStyle::kQuiet);
  const std::optional<int64_t> bound = max_memory_bytes(options);
  const Plan plan = bound ? within_memory(run_options, recipe, *bound, progress, options.processes).plan
                          : plan_run(run_options, recipe, progress, options.processes);
  if (!common.json) {
    print(plan_text(plan) + answers_text(answers));
    return;
  }
  Json json = to_json(plan);
  json["runtimes"] = to_json(answers);
  print(json.dump(1) + "\n");
}

}  // namespace ptq
