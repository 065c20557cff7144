// What --for asks: whether the programs of the table load what a run makes.
#pragma once

#include <string>
#include <vector>

#include "ptq/export/runtimes.h"
#include "ptq/pipeline/run.h"

namespace ptq {

// What each format of a runtime makes of a model, and whether the runtime loads it.
struct RuntimeAnswer {
  const RuntimeEntry* runtime;
  std::vector<RuntimeFit> fits;

  // In one format or more.
  bool loads() const;
};

// Of --for: of what a run with these options would make, in the order of the names. Throws a usage Error for
// a runtime that is not known, and Error as planned_output() does.
std::vector<RuntimeAnswer> answers_of_run(const std::vector<std::string>& runtimes, const RunOptions& options,
                                          const Recipe& recipe);

// Of `quantize plan --json`.
Json to_json(const std::vector<RuntimeAnswer>& answers);
// For people: lines.
std::string answers_text(const std::vector<RuntimeAnswer>& answers);

// Throws Error if one of the runtimes loads none of the formats, with the reasons and what to try.
void expect_loaded(const std::vector<RuntimeAnswer>& answers);

// What `quantize list --runtimes` prints: the table.
Json runtimes_json();
std::string runtimes_text();

}  // namespace ptq
