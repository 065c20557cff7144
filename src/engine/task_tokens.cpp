#include <algorithm>
#include <optional>

#include "engine/task_text.h"
#include "ptq/base/error.h"
#include "ptq/engine/tasks.h"

namespace ptq {
namespace {

using Ids = std::vector<int64_t>;

// Splits pairs of texts into tokens.
class PairEncoder {
 public:
  PairEncoder(const Tokenizer& tokenizer, int64_t start_token)
      : tokenizer_(tokenizer), start_token_(start_token), start_text_(tokenizer.decode({start_token})) {}

  ScoredText encode(const std::string& context, const std::string& continuation) {
    if (context.empty()) return encode_alone(continuation);
    // A space before a word is part of the word's token.
    const std::string_view kept = without_end_spaces(context);
    if (!context_ || kept != *context_) {
      context_ = kept;
      context_tokens_ = static_cast<int64_t>(encoded(*context_).size());
    }
    ScoredText text{.ids = encoded(context + continuation)};
    if (context_tokens_ == 0) return encode_alone(context + continuation);
    text.scored = static_cast<int64_t>(text.ids.size()) - context_tokens_;
    return text;
  }

 private:
  // A text that spells the start token itself gets no other.
  Ids encoded(const std::string& text) const {
    const bool has_start = !start_text_.empty() && text.starts_with(start_text_);
    return tokenizer_.encode(text, /*add_special=*/!has_start);
  }

  // The start token is the context, if the text does not begin with it.
  ScoredText encode_alone(const std::string& continuation) const {
    ScoredText text{.ids = tokenizer_.encode(continuation, /*add_special=*/false)};
    if (text.ids.empty() || text.ids.front() != start_token_) text.ids.insert(text.ids.begin(), start_token_);
    text.scored = static_cast<int64_t>(text.ids.size()) - 1;
    return text;
  }

  const Tokenizer& tokenizer_;
  int64_t start_token_;
  std::string start_text_;
  std::optional<std::string> context_;  // the last, without spaces at its end
  int64_t context_tokens_ = 0;
};

void check(const ScoredText& text, const std::string& where, int64_t vocab_size, int64_t most_tokens) {
  if (text.scored <= 0) throw Error(where, "has a continuation without a token of its own");
  if (text.scored > most_tokens) {
    throw Error(where,
                "has a continuation of " + std::to_string(text.scored) + " tokens; texts have up to " +
                    std::to_string(most_tokens),
                "--seq-len, if the model can see more");
  }
  for (const int64_t id : text.ids) {
    if (id >= 0 && id < vocab_size) continue;
    throw Error(where,
                "has the token id " + std::to_string(id) + "; the model's vocabulary has " +
                    std::to_string(vocab_size) + " entries",
                "the tokenizer belongs to another model");
  }
}

}  // namespace

TaskTokens encode_task(const TaskFile& task, const std::vector<std::string>& preambles,
                       const Tokenizer& tokenizer, const Model& model, int64_t most_tokens) {
  TaskTokens tokens;
  PairEncoder encoder(tokenizer, model.start_token());
  for (size_t i = 0; i < preambles.size(); ++i) {
    const TaskQuestion& question = task.questions[i];
    const std::string where = task.path + ": line " + std::to_string(question.line);
    std::vector<ScoredText>& texts = tokens.questions.emplace_back();
    for (size_t choice = 0; choice < question.continuations.size(); ++choice) {
      ScoredText text =
          encoder.encode(preambles[i] + question.contexts[choice], question.continuations[choice]);
      check(text, where, model.vocab_size(), most_tokens);
      const int64_t over = static_cast<int64_t>(text.ids.size()) - (most_tokens + 1);
      if (over > 0) {
        text.ids.erase(text.ids.begin(), text.ids.begin() + over);
        ++tokens.cut;
      }
      texts.push_back(std::move(text));
    }
  }
  return tokens;
}

}  // namespace ptq
