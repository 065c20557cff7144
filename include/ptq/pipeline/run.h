// A run: checkpoint and recipe in, artifact and report out.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/base/progress.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/comm/processes.h"
#include "ptq/method/recipe.h"
#include "ptq/model/model.h"
#include "ptq/report/report.h"
#include "ptq/tokenizer/tokenizer.h"

#include <ATen/ATen.h>

namespace ptq {

struct RunOptions {
  std::string model_path;
  CheckpointOptions checkpoint;
  std::string output;  // the directory to write
  bool force = false;
  std::vector<std::string> calibration;  // files; empty: the model writes its own text
  std::string tokenizer;                 // --tokenizer; empty: tokenizer.json beside the model
  std::string token_dtype;
  std::string text_field;  // --text-field; empty: "text"
  uint64_t seed = 0;
  std::string eval_text;  // empty: quality is measured on the held-out windows, if there are any
  // What came out of those of the files above that are pipes, by path: it can be read only once.
  std::map<std::string, std::shared_ptr<const std::string>> piped;
  at::Device device = at::kCPU;
  bool hidden_states_in_file = false;  // of the work directory, not in memory; on the CPU only
  int64_t max_shard_bytes = int64_t{5} << 30;
  bool strict = false;  // what was not done as asked is an error
  bool resume = false;  // goes on after the last finished block of a run that was stopped, if there is one
  // Of work, after which what was done is kept; 0: after every block. The last block and the one that a
  // signal meets are always kept.
  double save_every_seconds = 10;
  std::string resume_command;  // what to type to go on, for a message
  // Those that share the run, each of which calls run() with the same options; null: this one.
  std::shared_ptr<Processes> processes;
  Json program;  // the report's "program"
};

// Quantizes the model and writes the artifact, report.json and SHA256SUMS. Returns the report that was
// written. Throws Error, and then the output is as it was. If the Error may_pass(), what was kept last stays
// in `.NAME.partial` beside it, and the log says so; if not, nothing stays. After a signal the block is
// finished and kept first. Memory: a few blocks and, unless they lie in a file, the hidden states of the
// calibration windows. Of several processes the first reads the texts and writes; the others return an empty
// report. Their number changes no byte of the output but for the times in the report.
Report run(const RunOptions& options, const Recipe& recipe, Progress& progress);

// The tokenizer of --tokenizer (`option`, if it is not empty), or in the file of the model's weights, or of
// the model's folder, or null if there is none. Added tokens beyond the model's vocabulary are said in
// `warnings`: they are an error only where a text has one. Throws Error if its own vocabulary is larger than
// the model's, or it cannot be read; with `unreadable` the reason goes there instead, and the result is
// null.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& option, const OpenModel& open,
                                          std::vector<std::string>& warnings,
                                          std::string* unreadable = nullptr);

// A warning if a float model predicts a text hardly better than by chance, "" otherwise: the text, or the
// tokenizer, is then not what the model was trained on.
std::string chance_warning(double perplexity, int64_t vocab_size, const std::string& text);

// "<stem>-<method>-<bits or base>", in the current directory: a directory's stem is its name. Throws as
// output_here() does.
std::string default_output(const std::string& model_path, const Recipe& recipe);

}  // namespace ptq
