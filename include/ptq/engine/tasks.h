// Tasks that language models are judged by: questions with choices, and texts whose last word is asked for.
//
// A file has one JSON object a line, as the data sets are published or as the Hugging Face hub has their
// rows; which data set it is, is told by its fields. Prompts, the splitting into tokens, the draws of
// examples and the scores are those of lm-evaluation-harness 0.4, so that the figures are the same.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/engine/likelihood.h"
#include "ptq/tokenizer/text_file.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

// A row of a data set as a model is asked it.
struct TaskQuestion {
  std::string description;                 // of the task, before everything else; or ""
  std::string subject;                     // of MMLU; or ""
  std::vector<std::string> contexts;       // one for each choice
  std::vector<std::string> continuations;  // of the contexts, one for each choice
  std::vector<int64_t> lengths;            // of the choices, in characters
  int64_t answer = 0;                      // the right choice
  std::string example;                     // the question with its answer, as it stands before others
  int64_t line = 0;                        // of the file

  // Whether both ask the same, wherever they stand.
  bool same_as(const TaskQuestion& other) const;
};

struct TaskForm;

struct TaskFile {
  std::string path;
  const TaskForm* form = nullptr;
  std::vector<TaskQuestion> questions = {};  // at least one

  // "hellaswag".
  std::string name() const;
};

// Reads all rows. What had to be decided to read the file is added to `remarks`. Throws Error, naming the
// line, for a row of no known form, of another form than the first, without an answer, or with one that is
// none of the choices; and for a file without rows.
TaskFile read_task(const TextInput& input, std::vector<std::string>& remarks);

// One row, which is of `form`, or of any if that is null and is set. `where` is for messages. Throws Error as
// read_task() does.
TaskQuestion read_task_row(const Json& row, const std::string& where, const TaskForm*& form);

struct ShotOptions {
  int64_t count = 0;
  uint64_t seed = 0;
  const TaskFile* from = nullptr;  // null: the task's own file, without the question that is asked
};

// What stands before each of the first `count` questions: the description, and examples drawn at random, or,
// of MMLU, the first of the same subject. Throws Error if there are too few, or if they are of another form.
std::vector<std::string> task_preambles(const TaskFile& task, const ShotOptions& shots, size_t count);

struct TaskTokens {
  std::vector<std::vector<ScoredText>> questions;  // a text for each choice
  int64_t cut = 0;                                 // of the texts, how many lost tokens at their beginning
};

// The tokens of the first `preambles.size()` questions. Context and continuation are encoded together, and
// spaces at the end of a context belong to the continuation. An empty context is `start_token`. A text of
// more than `most_tokens` + 1 tokens, of which the last is never read, loses its first. Throws Error, naming
// the line, for a continuation without tokens of its own, one longer than `most_tokens`, and an id outside
// the vocabulary.
TaskTokens encode_task(const TaskFile& task, const std::vector<std::string>& preambles,
                       const Tokenizer& tokenizer, const Model& model, int64_t most_tokens);

struct Estimate {
  double value = 0;
  std::optional<double> standard_error = {};  // none of a single question
};

struct TaskAnswer {
  int64_t choice = 0;      // the likeliest
  int64_t normalized = 0;  // the likeliest by its characters
  bool right = false;      // of a last word: every token of it is the likeliest
  bool normalized_right = false;
  double log_likelihood = 0;  // of the right choice, in nats
};

struct TaskScores {
  std::vector<TaskAnswer> answers;
  Estimate accuracy;
  std::optional<Estimate> normalized_accuracy;  // where the harness reports it
  std::optional<Estimate> perplexity;           // of last words; its error is that of the mean times itself
  double mean_log_likelihood = 0;               // of right choices
  std::map<std::string, Estimate> subjects;     // accuracy by subject, of MMLU
};

// What the likelihoods of the first questions, one for each choice, say. REQUIRES: at least one question.
// Throws Error if the perplexity passes the largest float64.
TaskScores score_task(const TaskFile& task, const std::vector<std::vector<Likelihood>>& likelihoods);

}  // namespace ptq
