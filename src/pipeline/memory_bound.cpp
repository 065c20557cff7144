#include "ptq/pipeline/memory_bound.h"

#include <spdlog/spdlog.h>

#include "ptq/base/error.h"
#include "ptq/comm/processes.h"

namespace ptq {

BoundedRun within_memory(const RunOptions& options, const Recipe& recipe, int64_t max_bytes,
                         Progress& progress, int processes) {
  if (options.processes != nullptr) processes = options.processes->size();
  BoundedRun bounded{options, plan_run(options, recipe, progress, processes)};
  if (bounded.plan.peak_memory_bytes <= max_bytes) return bounded;
  const std::string bound = "--max-memory allows " + format_bytes(max_bytes);
  // Other devices, and processes that share the states, hold them in memory only.
  const bool can_move = !options.hidden_states_in_file && options.device.is_cpu() && processes == 1;
  if (can_move) {
    const std::string in_memory = format_bytes(bounded.plan.peak_memory_bytes);
    bounded.options.hidden_states_in_file = true;
    bounded.plan = plan_run(bounded.options, recipe, progress, processes);
    if (bounded.plan.peak_memory_bytes <= max_bytes) {
      spdlog::info("hidden states lie in a file: in memory the run would need about {}, and {}", in_memory,
                   bound);
      return bounded;
    }
  }
  throw Error(
      options.model_path,
      "a run needs about " + format_bytes(bounded.plan.peak_memory_bytes) + " of memory" +
          (bounded.options.hidden_states_in_file ? ", with its hidden states in a file" : "") + ", and " +
          bound,
      "fewer or shorter windows (--samples, --seq-len), a method that needs less (rtn), or a larger bound");
}

}  // namespace ptq
