// Each reader puts a row as the task's definition in lm-evaluation-harness does; published rows that differ
// from those of the hub are read to the same question.
#include "engine/task_forms.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

#include "engine/task_text.h"

namespace ptq {
namespace {

using Strings = std::vector<std::string>;

bool has_all(const Json& row, std::initializer_list<const char*> names) {
  return std::all_of(names.begin(), names.end(), [&](const char* name) { return row.contains(name); });
}

// "7-980": the ids of OpenBookQA as published, whose rows are otherwise those of ARC.
bool is_openbookqa_id(const Json& row) {
  if (!row.contains("id") || !row["id"].is_string()) return false;
  const auto id = row["id"].get<std::string>();
  const size_t dash = id.find('-');
  const auto digits = [](const std::string& text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  };
  return dash != std::string::npos && digits(id.substr(0, dash)) && digits(id.substr(dash + 1));
}

bool is_published_science(const Json& row) {
  return row.contains("question") && row["question"].is_object() && row["question"].contains("stem");
}

std::string text_of(JsonFields& row, const char* name) {
  row.at(name);
  return row.string(name, "");
}

Strings texts_of(const Json& list, const std::string& where) {
  if (!list.is_array())
    throw Error(where, std::string("expected a list of texts, found ") + list.type_name());
  Strings texts;
  for (const Json& text : list) {
    if (!text.is_string())
      throw Error(where + "[" + std::to_string(texts.size()) + "]",
                  std::string("expected a string, found ") + text.type_name());
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

// The index of a choice: a number, or one in a string.
int64_t index_of(JsonFields& row, const char* name, int64_t first, size_t choices) {
  const Json& value = row.at(name);
  int64_t number = -1;
  if (value.is_string()) {
    const auto text = value.get<std::string>();
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failed != std::errc() || end != text.data() + text.size())
      throw Error(row.path() + "." + name, "is " + value.dump() + ", which is no number of a choice",
                  "rows with answers: those of a test set are not published");
  } else {
    number = row.integer(name, -1);
  }
  const int64_t last = first + static_cast<int64_t>(choices) - 1;
  if (number < first || number > last)
    throw Error(row.path() + "." + name, "is " + std::to_string(number) + "; the choices are " +
                                             std::to_string(first) + " to " + std::to_string(last));
  return number - first;
}

// One context for all choices, and " choice" behind it.
TaskQuestion question(const std::string& context, const Strings& choices, int64_t answer) {
  TaskQuestion question;
  for (const std::string& choice : choices) {
    question.contexts.push_back(context);
    question.continuations.push_back(" " + choice);
    question.lengths.push_back(length_in_characters(choice));
  }
  question.answer = answer;
  question.example = context + question.continuations[static_cast<size_t>(answer)] + "\n\n";
  return question;
}

void expect_choices(const Strings& choices, const std::string& where, size_t least = 2) {
  if (choices.size() < least)
    throw Error(where, "has " + std::to_string(choices.size()) + " choices; at least " +
                           std::to_string(least) + " are needed");
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].empty()) throw Error(where + "[" + std::to_string(i) + "]", "is an empty choice");
  }
}

TaskQuestion read_hellaswag(JsonFields& row) {
  const std::string context = text_of(row, "ctx_a") + " " + capitalized(text_of(row, "ctx_b"));
  Strings endings = texts_of(row.at("endings"), row.path() + ".endings");
  for (std::string& ending : endings) ending = without_brackets(ending);
  expect_choices(endings, row.path() + ".endings");
  return question(without_brackets(text_of(row, "activity_label") + ": " + context), endings,
                  index_of(row, "label", 0, endings.size()));
}

TaskQuestion read_piqa(JsonFields& row) {
  const Strings solutions = {text_of(row, "sol1"), text_of(row, "sol2")};
  expect_choices(solutions, row.path() + ".sol");
  return question("Question: " + text_of(row, "goal") + "\nAnswer:", solutions,
                  index_of(row, "label", 0, solutions.size()));
}

struct LabelledChoices {
  Strings texts, labels;
};

// {"text": [...], "label": [...]}, or as published [{"text": ..., "label": ...}, ...].
LabelledChoices labelled_choices(const Json& choices, const std::string& where) {
  LabelledChoices read;
  if (choices.is_array()) {
    for (size_t i = 0; i < choices.size(); ++i) {
      JsonFields choice(choices[i], where + "[" + std::to_string(i) + "]");
      read.texts.push_back(text_of(choice, "text"));
      read.labels.push_back(text_of(choice, "label"));
    }
  } else {
    JsonFields columns(choices, where);
    read.texts = texts_of(columns.at("text"), where + ".text");
    read.labels = texts_of(columns.at("label"), where + ".label");
  }
  if (read.texts.size() != read.labels.size())
    throw Error(where, "has " + std::to_string(read.texts.size()) + " texts and " +
                           std::to_string(read.labels.size()) + " labels");
  expect_choices(read.texts, where);
  return read;
}

int64_t index_of_label(JsonFields& row, const Strings& labels) {
  const std::string key(without_spaces(text_of(row, "answerKey")));
  const auto found = std::find(labels.begin(), labels.end(), key);
  if (found != labels.end()) return found - labels.begin();
  std::string all;
  for (const std::string& label : labels) all += (all.empty() ? "" : ", ") + label;
  throw Error(row.path() + ".answerKey", "is \"" + key + "\"; the choices are " + all);
}

// Stem and choices of ARC and OpenBookQA: `stem` names the hub's field.
TaskQuestion read_science(JsonFields& row, const char* stem, const char* before, const char* after) {
  std::string asked;
  LabelledChoices choices;
  const Json& first = row.has("question") ? row.at("question") : row.at(stem);
  if (first.is_object()) {
    JsonFields fields(first, row.path() + ".question");
    asked = text_of(fields, "stem");
    choices = labelled_choices(fields.at("choices"), fields.path() + ".choices");
  } else {
    asked = text_of(row, stem);
    choices = labelled_choices(row.at("choices"), row.path() + ".choices");
  }
  return question(before + asked + after, choices.texts, index_of_label(row, choices.labels));
}

TaskQuestion read_arc(JsonFields& row) {
  return read_science(row, "question", "Question: ", "\nAnswer:");
}

TaskQuestion read_openbookqa(JsonFields& row) {
  return read_science(row, "question_stem", "", "");
}

// The likelihood is that of the end of the sentence, after each of the options.
TaskQuestion read_winogrande(JsonFields& row) {
  const std::string sentence = text_of(row, "sentence");
  const size_t gap = sentence.find('_');
  if (gap == std::string::npos) throw Error(row.path() + ".sentence", "has no gap, which is \"_\"");
  const std::string begin = sentence.substr(0, gap);
  const std::string end(without_spaces(std::string_view(sentence).substr(gap + 1)));
  if (end.empty()) throw Error(row.path() + ".sentence", "has nothing after the gap");
  const Strings options = {text_of(row, "option1"), text_of(row, "option2")};
  expect_choices(options, row.path() + ".option");
  TaskQuestion question;
  for (const std::string& option : options) {
    question.contexts.push_back(begin + option);
    question.continuations.push_back(" " + end);
    question.lengths.push_back(length_in_characters(option));
  }
  question.answer = index_of(row, "answer", 1, options.size());
  question.example = question.contexts[static_cast<size_t>(question.answer)] + " " + end + "\n\n";
  return question;
}

TaskQuestion read_boolq(JsonFields& row) {
  const bool is_published = !row.has("label");
  if (is_published) row.at("answer");
  const int64_t answer = is_published ? (row.boolean("answer", false) ? 1 : 0) : index_of(row, "label", 0, 2);
  return question(text_of(row, "passage") + "\nQuestion: " + text_of(row, "question") + "?\nAnswer:",
                  {"no", "yes"}, answer);
}

TaskQuestion read_mmlu(JsonFields& row) {
  const Strings letters = {"A", "B", "C", "D"};
  const Strings choices = texts_of(row.at("choices"), row.path() + ".choices");
  if (choices.size() != letters.size())
    throw Error(row.path() + ".choices",
                "has " + std::to_string(choices.size()) + " choices; MMLU's rows have 4");
  const auto asked = text_of(row, "question");
  std::string context(without_spaces(asked));
  for (size_t i = 0; i < choices.size(); ++i) context += "\n" + letters[i] + ". " + choices[i];
  const Json& answer = row.at("answer");
  const auto letter = answer.is_string()
                          ? std::find(letters.begin(), letters.end(), answer.get<std::string>())
                          : letters.end();
  TaskQuestion result = question(
      context + "\nAnswer:", letters,
      letter != letters.end() ? letter - letters.begin() : index_of(row, "answer", 0, choices.size()));
  result.subject = text_of(row, "subject");
  result.description = "The following are multiple choice questions (with answers) about " +
                       replaced(result.subject, "_", " ") + ".\n\n";
  return result;
}

TaskQuestion read_choices(JsonFields& row) {
  const Strings choices = texts_of(row.at("choices"), row.path() + ".choices");
  expect_choices(choices, row.path() + ".choices");
  return question(text_of(row, "context"), choices, index_of(row, "answer", 0, choices.size()));
}

// What follows the last space. An example has two spaces there: the harness puts one of its own before.
TaskQuestion read_lambada(JsonFields& row) {
  const std::string text = text_of(row, "text");
  const size_t space = text.rfind(' ');
  const std::string word = space == std::string::npos ? text : text.substr(space + 1);
  if (word.empty()) throw Error(row.path() + ".text", "ends without a word");
  TaskQuestion question;
  question.contexts.push_back(space == std::string::npos ? "" : text.substr(0, space));
  question.continuations.push_back(" " + word);
  question.lengths.push_back(length_in_characters(word));
  question.example = question.contexts.front() + "  " + word + "\n\n";
  return question;
}

constexpr TaskForm kForms[] = {
    {"hellaswag", "activity_label, ctx_a, ctx_b, endings, label",
     [](const Json& row) { return has_all(row, {"activity_label", "ctx_a", "ctx_b", "endings"}); },
     read_hellaswag, Draw::kOneMore, /*normalizes=*/true},
    {"piqa", "goal, sol1, sol2, label",
     [](const Json& row) { return has_all(row, {"goal", "sol1", "sol2"}); }, read_piqa, Draw::kOneMore,
     /*normalizes=*/true, /*last_word=*/false, /*apart=*/"label"},
    {"openbookqa", "question_stem, choices, answerKey",
     [](const Json& row) {
       return has_all(row, {"question_stem", "choices"}) ||
              (is_published_science(row) && is_openbookqa_id(row));
     },
     read_openbookqa, Draw::kAsked, /*normalizes=*/true},
    {"arc", "question, choices, answerKey",
     [](const Json& row) {
       return has_all(row, {"question", "choices", "answerKey"}) || is_published_science(row);
     },
     read_arc, Draw::kAsked, /*normalizes=*/true},
    {"winogrande", "sentence, option1, option2, answer",
     [](const Json& row) { return has_all(row, {"sentence", "option1", "option2"}); }, read_winogrande,
     Draw::kOneMore},
    {"boolq", "passage, question, label or answer",
     [](const Json& row) { return has_all(row, {"passage", "question"}); }, read_boolq, Draw::kOneMore},
    {"mmlu", "question, subject, choices, answer",
     [](const Json& row) { return has_all(row, {"question", "subject", "choices"}); }, read_mmlu,
     Draw::kFirst},
    {"choices", "context, choices, answer",
     [](const Json& row) { return has_all(row, {"context", "choices"}); }, read_choices, Draw::kOneMore,
     /*normalizes=*/true},
    {"lambada", "text", [](const Json& row) { return has_all(row, {"text"}); }, read_lambada, Draw::kAsked,
     /*normalizes=*/false, /*last_word=*/true},
};

}  // namespace

std::span<const TaskForm> task_forms() {
  return kForms;
}

}  // namespace ptq
