// What each data set's rows become, as strings; what is drawn, how texts become tokens, and the scores.
#include "ptq/engine/tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "../support/toy_source.h"
#include "engine/python_random.h"
#include "engine/task_forms.h"
#include "engine/task_text.h"

namespace ptq {
namespace {

using Strings = std::vector<std::string>;

void expect_error(const std::function<void()>& run, const std::string& words) {
  EXPECT_ERROR(run(), ExitCode::kFailed, words);
}

struct Row {
  std::string form;
  TaskQuestion question;
};

Row read(const std::string& json) {
  const TaskForm* form = nullptr;
  TaskQuestion question = read_task_row(parse_json(json, "row"), "row", form);
  return {form->name, std::move(question)};
}

// A row whose choices all follow the same context.
void expect_row(const std::string& json, const std::string& form, const std::string& context,
                const Strings& continuations, int64_t answer) {
  const Row row = read(json);
  EXPECT_EQ(row.form, form);
  EXPECT_EQ(row.question.contexts, Strings(continuations.size(), context)) << json;
  EXPECT_EQ(row.question.continuations, continuations) << json;
  EXPECT_EQ(row.question.answer, answer) << json;
}

void expect_refused(const std::string& json, const std::string& words) {
  expect_error([&] { read(json); }, words);
}

TEST(TaskRow, HellaSwagLosesItsBracketsAndBeginsASentence) {
  const Strings endings = {" turns. left.", " is \xC3\xA9lan."};
  const auto row = [](const std::string& label) {
    return R"({"ind": 24, "activity_label": "Roof shingle removal", "ctx_a": "A man  is on a roof [header] Up.",)"
           R"( "ctx_b": "hE", "ctx": "", "endings": [" turns [title] left.", "[step] is \u00e9lan."],)"
           R"( "source_id": "a~b", "split": "val", "label": )" +
           label + "}";
  };
  const std::string context = "Roof shingle removal: A man is on a roof Up. He";
  const Strings expected = {" turns. left.", "  is \xC3\xA9lan."};
  for (const std::string label : {"1", "\"1\""}) expect_row(row(label), "hellaswag", context, expected, 1);
  EXPECT_EQ(read(row("0")).question.lengths, (std::vector<int64_t>{12, 9}));
  expect_refused(row("2"), "row.label: is 2; the choices are 0 to 1");
  expect_refused(row("\"\""), "row.label: is \"\", which is no number of a choice");
}

TEST(TaskRow, PiqaAsksForTheGoal) {
  expect_row(R"({"goal": "To boil", "sol1": "heat", "sol2": "cool it", "label": 1})", "piqa",
             "Question: To boil\nAnswer:", {" heat", " cool it"}, 1);
}

TEST(TaskRow, ArcAndOpenBookQaAreReadAsPublishedAndAsTheHubHasThem) {
  const std::string hub = R"({"text": ["dry palms", "wet palms", "oil"], "label": ["1", "2", "3"]})";
  const std::string published =
      R"([{"text": "dry palms", "label": "1"}, {"text": "wet palms", "label": "2"}, {"text": "oil", "label": "3"}])";
  const Strings choices = {" dry palms", " wet palms", " oil"};
  expect_row(
      R"({"id": "Mercury_7175875", "question": "Which?", "choices": )" + hub + R"(, "answerKey": "3"})",
      "arc", "Question: Which?\nAnswer:", choices, 2);
  expect_row(R"({"id": "Mercury_7175875", "question": {"stem": "Which?", "choices": )" + published +
                 R"(}, "answerKey": "3"})",
             "arc", "Question: Which?\nAnswer:", choices, 2);
  expect_row(R"({"id": "7-980", "question_stem": "The sun", "choices": )" + hub + R"(, "answerKey": " 1"})",
             "openbookqa", "The sun", choices, 0);
  expect_row(R"({"id": "7-980", "question": {"stem": "The sun", "choices": )" + published +
                 R"(}, "answerKey": "1"})",
             "openbookqa", "The sun", choices, 0);
  expect_refused(R"({"id": "x", "question": "Which?", "choices": )" + hub + R"(, "answerKey": "4"})",
                 "row.answerKey: is \"4\"; the choices are 1, 2, 3");
}

TEST(TaskRow, WinoGrandeScoresTheEndOfTheSentenceAfterEachOption) {
  const Row row =
      read(R"({"qID": "3D5", "sentence": "The _ was  big. ", "option1": "cat", "option2": "dog's",)"
           R"( "answer": "2"})");
  EXPECT_EQ(row.form, "winogrande");
  EXPECT_EQ(row.question.contexts, (Strings{"The cat", "The dog's"}));
  EXPECT_EQ(row.question.continuations, Strings(2, " was  big."));
  EXPECT_EQ(row.question.answer, 1);
  EXPECT_EQ(row.question.example, "The dog's was  big.\n\n");
  expect_refused(R"({"sentence": "None.", "option1": "a", "option2": "b", "answer": "1"})", "has no gap");
  expect_refused(R"({"sentence": "A _ b", "option1": "a", "option2": "b", "answer": "3"})",
                 "is 3; the choices are 1 to 2");
}

TEST(TaskRow, BoolQIsReadAsPublishedAndAsTheHubHasIt) {
  const std::string begin = R"({"passage": "Ice is cold.", "question": "is ice cold", )";
  for (const std::string answer : {"\"answer\": true, \"title\": \"Ice\"}", "\"label\": 1, \"idx\": 7}"})
    expect_row(begin + answer, "boolq", "Ice is cold.\nQuestion: is ice cold?\nAnswer:", {" no", " yes"}, 1);
  expect_refused(begin + "\"answer\": 1}", "row.answer: expected true or false");
  expect_refused(begin + "\"idx\": 1}", "\"answer\" is missing");
}

TEST(TaskRow, MmluHasItsSubjectAtTheTopAndLettersForChoices) {
  const std::string begin =
      R"({"question": " Who?\n", "subject": "us_foreign_policy", "choices": ["a","b","c","d"],)";
  const std::string context = "Who?\nA. a\nB. b\nC. c\nD. d\nAnswer:";
  for (const std::string answer : {" \"answer\": 2}", " \"answer\": \"C\"}"})
    expect_row(begin + answer, "mmlu", context, {" A", " B", " C", " D"}, 2);
  const TaskQuestion question = read(begin + " \"answer\": 0}").question;
  EXPECT_EQ(question.description,
            "The following are multiple choice questions (with answers) about us foreign policy.\n\n");
  EXPECT_EQ(question.example, context + " A\n\n");
}

TEST(TaskRow, PlainChoicesAndLastWords) {
  expect_row(R"({"context": "Two and two are", "choices": ["four", "five"], "answer": 0})", "choices",
             "Two and two are", {" four", " five"}, 0);
  expect_row(R"({"text": "He said \"no\"\n\nand went home"})", "lambada", "He said \"no\"\n\nand went",
             {" home"}, 0);
  expect_row(R"({"text": "Home"})", "lambada", "", {" Home"}, 0);
  EXPECT_EQ(read(R"({"text": "went home"})").question.example, "went  home\n\n");
  expect_refused(R"({"text": "ends in a space "})", "ends without a word");
}

TEST(TaskRow, WhatIsNoQuestionIsRefused) {
  expect_refused("[1]", "expected an object, found array");
  expect_refused(R"({"prompt": "a", "answer": 1})",
                 "is a row of no data set that is known; its fields are prompt");
  expect_refused(R"({"context": "a", "choices": [], "answer": 0})", "row.choices: has 0 choices");
  expect_refused(R"({"context": "a", "choices": ["b", ""], "answer": 0})",
                 "row.choices[1]: is an empty choice");
  expect_refused(R"({"context": "a", "choices": ["b", 3], "answer": 0})",
                 "row.choices[1]: expected a string");
  expect_refused(R"({"context": "a", "choices": "b", "answer": 0})", "row.choices: expected a list of texts");
  expect_refused(R"({"context": 1, "choices": ["b", "c"], "answer": 0})", "row.context: expected a string");
  expect_refused(R"({"context": "a", "choices": ["b", "c"]})", "\"answer\" is missing");
  expect_refused(R"({"context": "a", "choices": ["b", "c"], "answer": 2})", "is 2; the choices are 0 to 1");
  expect_refused(R"({"context": "a", "choices": ["b", "c"], "answer": -1})", "is -1; the choices are 0 to 1");
  expect_refused(R"({"context": "a", "choices": ["b", "c"], "answer": 0.5})", "expected an integer");
}

TEST(TaskText, IsThatOfPython) {
  EXPECT_EQ(without_end_spaces("a b \n\xC2\xA0\x1C"), "a b");
  EXPECT_EQ(without_spaces("\xE2\x80\xA8 a \t"), "a");
  EXPECT_EQ(without_spaces(" \n"), "");
  EXPECT_EQ(capitalized("\xC3\xA9LAN \xC3\x89t\xC3\xA9"), "\xC3\x89lan \xC3\xA9t\xC3\xA9");
  EXPECT_EQ(capitalized(""), "");
  EXPECT_EQ(length_in_characters("\xC3\xA9\xE2\x82\xAC x"), 4);
  EXPECT_EQ(without_brackets(" [header] a [b [c] d] [open\n] [e]   f"), " a d] [open\n]  f");
}

// The figures are those of Python 3.11.
TEST(PythonRandom, DrawsWhatPythonDraws) {
  using Drawn = std::vector<int64_t>;
  PythonRandom random(1234);
  EXPECT_EQ(random.sample(10, 4), (Drawn{7, 1, 0, 9}));
  EXPECT_EQ(random.sample(1000, 5), (Drawn{932, 965, 961, 826, 596}));
  EXPECT_EQ(random.sample(100, 8), (Drawn{4, 85, 88, 10, 12, 98, 45, 30}));
  EXPECT_EQ(random.sample(50, 6), (Drawn{1, 49, 48, 22, 41, 39}));
  EXPECT_EQ(PythonRandom(0).sample(7, 7), (Drawn{6, 3, 5, 0, 1, 2, 4}));
  EXPECT_EQ(PythonRandom((uint64_t{1} << 40) + 5).sample(5000, 5), (Drawn{4131, 4234, 2200, 224, 4349}));
}

std::string choices_row(const std::string& context, int64_t answer = 0) {
  return Json({{"context", context}, {"choices", {"b", "cd"}}, {"answer", answer}}).dump() + "\n";
}

class TaskFiles : public ::testing::Test {
 protected:
  const TempDirectory directory_;

  TaskFile file(const std::string& text, const std::string& name = "task.jsonl") const {
    std::vector<std::string> remarks;
    return read_task({.path = directory_.write(name, text)}, remarks);
  }
  void expect_file_error(const std::string& text, const std::string& words) const {
    expect_error([&] { file(text); }, words);
  }
};

TEST_F(TaskFiles, MistakesAreNamedByTheirLine) {
  expect_file_error("", "has no question");
  expect_file_error(choices_row("a") + "\n{\"text\": \"a b\"}\n",
                    "task.jsonl: line 3: is a row of lambada, the first was one of choices");
  expect_file_error(choices_row("a") + choices_row("b", 7), "task.jsonl: line 2.answer: is 7");
  expect_file_error(choices_row("a") + "{\"context\": \"a\n", "task.jsonl: line 2");
  expect_file_error("\xFF\xFE\xFD", "task.jsonl");
  expect_file_error(choices_row("a") + "\xC3\x28\n", "task.jsonl");
}

TEST_F(TaskFiles, PiqaTakesItsAnswersFromTheFileBeside) {
  const std::string rows =
      "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\"}\n"
      "{\"goal\": \"d\", \"sol1\": \"e\", \"sol2\": \"f\"}\n";
  expect_file_error(rows, "has no \"label\", and there is no");
  directory_.write("valid-labels.lst", "1\n0\n");
  const TaskFile task = file(rows, "valid.jsonl");
  ASSERT_EQ(task.questions.size(), 2U);
  EXPECT_EQ(task.questions[0].answer, 1);
  EXPECT_EQ(task.questions[1].answer, 0);
  directory_.write("valid-labels.lst", "1\n");
  expect_error([&] { file(rows, "valid.jsonl"); }, "has no answer for");
  directory_.write("valid-labels.lst", "1\n0\n1\n");
  expect_error([&] { file(rows, "valid.jsonl"); }, "line 3: is an answer to no question");
}

TEST_F(TaskFiles, ExamplesAreDrawnWithoutTheQuestionThatIsAsked) {
  std::string rows;
  for (int i = 0; i < 6; ++i) rows += choices_row("q" + std::to_string(i), i % 2);
  const TaskFile task = file(rows);
  const ShotOptions shots{.count = 3, .seed = 1234};
  const Strings preambles = task_preambles(task, shots, 6);
  EXPECT_EQ(task_preambles(task, shots, 6), preambles);
  for (size_t i = 0; i < preambles.size(); ++i) {
    EXPECT_EQ(preambles[i].find(task.questions[i].contexts[0] + " "), std::string::npos) << preambles[i];
    EXPECT_EQ(std::count(preambles[i].begin(), preambles[i].end(), '\n'), 6) << preambles[i];
  }
  // One more than asked is drawn, for the question may be among them.
  std::vector<int64_t> drawn = PythonRandom(1234).sample(6, 4);
  std::erase(drawn, 0);
  std::string expected;
  for (size_t i = 0; i < 3; ++i) expected += task.questions[static_cast<size_t>(drawn[i])].example;
  EXPECT_EQ(preambles[0], expected);
  EXPECT_EQ(task_preambles(task, {}, 6), Strings(6));
  expect_error([&] { task_preambles(task, {.count = 6}, 6); }, "beside the one asked; --shots 6 needs 6");
}

TEST_F(TaskFiles, MmluTakesTheFirstOfTheSubject) {
  const auto row = [](const std::string& question, const std::string& subject) {
    return Json({{"question", question},
                 {"subject", subject},
                 {"choices", {"a", "b", "c", "d"}},
                 {"answer", 0}})
               .dump() +
           "\n";
  };
  const TaskFile dev =
      file(row("x", "law") + row("y", "art") + row("z", "art") + row("w", "art"), "dev.jsonl");
  const TaskFile task = file(row("asked", "art"));
  const std::string options = "\nA. a\nB. b\nC. c\nD. d\nAnswer: A\n\n";
  EXPECT_EQ(task_preambles(task, {.count = 2, .from = &dev}, 1),
            Strings{"The following are multiple choice questions (with answers) about art.\n\ny" + options +
                    "z" + options});
  const TaskFile other = file(choices_row("a"), "other.jsonl");
  expect_error([&] { task_preambles(task, {.count = 1, .from = &other}, 1); }, "has rows of choices");
}

// Every byte is a token, but for " b", which is one.
std::unique_ptr<Tokenizer> letters() {
  Json vocab = Json::object();
  for (int64_t i = 0; i < 26; ++i) vocab[std::string(1, static_cast<char>('a' + i))] = i;
  vocab["\xC4\xA0"] = 26;
  vocab
      ["\xC4\xA0"
       "b"] = 27;
  vocab["S"] = 28;
  const Json document = {
      {"version", "1.0"},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"\xC4\xA0 b"}}}},
      {"decoder", {{"type", "ByteLevel"}}}};
  return Tokenizer::from_json(document.dump(), "letters");
}

class AskedModel : public TaskFiles {
 protected:
  const testing::Source source_{testing::toy_mamba({24, 48, 8, 4})};
  const std::unique_ptr<Model> model_ = source_.model();
  const std::unique_ptr<Tokenizer> tokenizer_ = letters();

  TaskTokens encode(const TaskFile& task, int64_t most = 100) const {
    return encode_task(task, Strings(task.questions.size()), *tokenizer_, *model_, most);
  }
};

TEST_F(AskedModel, SpacesAtTheEndOfAContextGoToTheContinuation) {
  const TaskTokens tokens = encode(file(choices_row("xy ")));
  // "xy" and "  b": the second space is that of the word.
  EXPECT_EQ(tokens.questions[0][0], (ScoredText{.ids = {23, 24, 26, 27}, .scored = 2}));
  EXPECT_EQ(tokens.questions[0][1], (ScoredText{.ids = {23, 24, 26, 26, 2, 3}, .scored = 4}));
}

TEST_F(AskedModel, AnEmptyContextIsTheStartToken) {
  const int64_t start = model_->start_token();
  const TaskTokens tokens = encode(file(choices_row("") + choices_row("  ")));
  EXPECT_EQ(tokens.questions[0][0], (ScoredText{.ids = {start, 27}, .scored = 1}));
  EXPECT_EQ(tokens.questions[1][0], (ScoredText{.ids = {start, 26, 26, 27}, .scored = 3}));
}

TEST_F(AskedModel, LongTextsLoseTheirBeginning) {
  const TaskTokens tokens = encode(file(choices_row("uvwxyz")), 4);
  EXPECT_EQ(tokens.cut, 2);
  EXPECT_EQ(tokens.questions[0][0], (ScoredText{.ids = {22, 23, 24, 25, 27}, .scored = 1}));
  EXPECT_EQ(tokens.questions[0][1], (ScoredText{.ids = {24, 25, 26, 2, 3}, .scored = 3}));
  expect_error([&] { encode(file(choices_row("a")), 2); },
               "line 1: has a continuation of 3 tokens; texts have up to 2");
}

TEST(TaskScores, AreWhatTheHarnessComputes) {
  const TempDirectory directory;
  std::vector<std::string> remarks;
  const TaskFile task = read_task(
      {.path = directory.write("t.jsonl", choices_row("a", 0) + choices_row("b", 1) + choices_row("c", 1))},
      remarks);
  // By length, which is 1 and 2, the second choice of the first question is better.
  const TaskScores scores =
      score_task(task, {{{-3, true}, {-4, true}}, {{-1, true}, {-5, true}}, {{-9, true}, {-8, true}}});
  EXPECT_EQ(scores.accuracy.value, 2.0 / 3);
  EXPECT_DOUBLE_EQ(scores.accuracy.standard_error.value(), std::sqrt((1.0 / 9 * 2 + 4.0 / 9) / 2 / 3));
  EXPECT_EQ(scores.normalized_accuracy->value, 1.0 / 3);
  EXPECT_DOUBLE_EQ(scores.mean_log_likelihood, (-3.0 - 5 - 8) / 3);
  EXPECT_FALSE(scores.perplexity.has_value());
  EXPECT_EQ(scores.answers[0].choice, 0);
  EXPECT_EQ(scores.answers[0].normalized, 1);
  EXPECT_FALSE(score_task(task, {{{-3, true}, {-4, true}}}).accuracy.standard_error.has_value());
}

TEST(TaskScores, ALastWordIsRightIfTheModelWouldWriteIt) {
  const TempDirectory directory;
  std::vector<std::string> remarks;
  const TaskFile task =
      read_task({.path = directory.write("t.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n")}, remarks);
  const TaskScores scores = score_task(task, {{{-1, true}}, {{-3, false}}});
  EXPECT_EQ(scores.accuracy.value, 0.5);
  EXPECT_DOUBLE_EQ(scores.perplexity->value, std::exp(2.0));
  EXPECT_DOUBLE_EQ(scores.perplexity->standard_error.value(), std::exp(2.0));
  EXPECT_FALSE(scores.normalized_accuracy.has_value());
}

}  // namespace
}  // namespace ptq
