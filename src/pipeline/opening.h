// What a run does before its loop, and `quantize plan` instead of it: the model and the inputs are opened and
// checked.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/method/recipe.h"
#include "ptq/pipeline/run.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

// The model that the recipe is for; what another program has quantized as a float model. Throws Error for an
// artifact, an architecture that is not known or that the method is not for, a --skip that matches no tensor,
// and all that the architecture finds wrong in headers.
OpenModel open_float_model(const RunOptions& options, const Recipe& recipe);

// Throws a usage Error if `pattern`, given by `where`, matches none of the tensors `names`, with or without
// ".weight".
void expect_match(const std::string& where, const std::string& pattern,
                  const std::vector<std::string>& names);

// The report's "source" without the files' checksums.
Json source_json(const RunOptions& options, const OpenModel& open);

// The tokenizer of the run, null if there is none. One that the program cannot read is an Error only if there
// is something to read with it, and a warning else.
std::unique_ptr<Tokenizer> tokenizer_of_run(const RunOptions& options, const OpenModel& open,
                                            std::vector<std::string>& warnings);

// What goes into the output beside the weights.
struct RunCompanions {
  std::map<std::string, std::string> files;  // name -> path, of companion_files()
  std::map<std::string, std::string> texts;  // name -> text: the tokenizer that the weights' file holds
};
RunCompanions companions_of_run(const RunOptions& options, const OpenModel& open,
                                std::vector<std::string>& warnings);

// The ids of --eval-text, none without it. What had to be decided to read it goes to `warnings`. Throws Error
// if they are too few.
std::vector<int64_t> read_eval_text(const RunOptions& options, const Tokenizer* tokenizer, const Model& model,
                                    std::vector<std::string>& warnings);

// True if a pattern of the recipe's `skip` matches the name, of a layer or a tensor, with or without
// ".weight".
bool is_skipped(const Recipe& recipe, const std::string& name);

// A weight around the blocks of `model` in the form that is stored. The embedding is rounded a row at a time,
// if the recipe says so and does not skip it: a row is one token's vector, and a single scale for all would
// be set by the rarest. A weight that is skipped is added to `decisions`.
Weight outer_weight_as_written(const Weight& weight, const Model& model, const Recipe& recipe,
                               std::vector<Remark>& decisions);

// Adds to `said` those of `warnings` that are not in it yet: steps repeat theirs for every block.
void say_once(const std::vector<std::string>& warnings, std::vector<std::string>& said);

void append(std::vector<Remark>& remarks, const std::vector<Remark>& more);

// --strict: throws Error with the list of what was not done as asked, if there is anything.
void refuse_fallbacks(const std::vector<Remark>& fallbacks, const std::vector<std::string>& warnings);

}  // namespace ptq
