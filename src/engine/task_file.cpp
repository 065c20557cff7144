#include <algorithm>
#include <filesystem>
#include <utility>

#include "engine/task_forms.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr size_t kMostQuestions = 4'000'000;

JsonLimits row_limits() {
  JsonLimits limits;
  limits.max_bytes = size_t{16} << 20;
  limits.max_values = 100'000;
  return limits;
}

std::string known_fields() {
  std::string text;
  for (const TaskForm& form : task_forms())
    text += std::string(text.empty() ? "" : "; ") + form.name + ": " + form.fields;
  return text;
}

const TaskForm* form_of(const Json& row) {
  for (const TaskForm& form : task_forms()) {
    if (form.matches(row)) return &form;
  }
  return nullptr;
}

void expect_form(const Json& row, const std::string& where, const TaskForm*& form) {
  if (!row.is_object()) throw Error(where, std::string("expected an object, found ") + row.type_name());
  const TaskForm* const found = form_of(row);
  if (found == nullptr) {
    std::string fields;
    for (const auto& [name, value] : row.items()) {
      fields += (fields.empty() ? "" : ", ") + name;
      if (fields.size() > 200) break;
    }
    throw Error(where, "is a row of no data set that is known; its fields are " + fields,
                "rows with " + known_fields());
  }
  if (form != nullptr && found != form)
    throw Error(where, std::string("is a row of ") + found->name + ", the first was one of " + form->name,
                "a file for each");
  form = found;
}

// Answers that lie in a file beside that of the questions, in order.
class AnswersApart {
 public:
  explicit AnswersApart(std::string path) : path_(std::move(path)) {
    const std::filesystem::path questions(path_);
    answers_path_ = (questions.parent_path() / (questions.stem().string() + "-labels.lst")).string();
  }

  // Puts the next into the row if it has none. Throws Error if there is no such file or no such line.
  void complete(Json& row, const char* field, const std::string& where) {
    if (row.contains(field) && !row[field].is_null()) return;
    if (!file_) {
      if (!std::filesystem::exists(answers_path_))
        throw Error(where, std::string("has no \"") + field + "\", and there is no " + answers_path_,
                    "the answers as published, beside the questions");
      file_.emplace(TextInput{answers_path_});
    }
    const std::optional<std::string> line = file_->next_line();
    if (!line) throw Error(answers_path_, "has no answer for " + where);
    row[field] = parse_json(*line, file_->line_name(), row_limits());
  }
  // Throws Error if answers are left.
  void finish() {
    if (file_ && file_->next_line())
      throw Error(file_->line_name(), "is an answer to no question of " + path_);
  }

 private:
  std::string path_, answers_path_;
  std::optional<TextFile> file_;
};

}  // namespace

bool TaskQuestion::same_as(const TaskQuestion& other) const {
  return answer == other.answer && subject == other.subject && contexts == other.contexts &&
         continuations == other.continuations && example == other.example;
}

std::string TaskFile::name() const {
  return form->name;
}

TaskQuestion read_task_row(const Json& row, const std::string& where, const TaskForm*& form) {
  expect_form(row, where, form);
  JsonFields fields(row, where);
  return form->read(fields);
}

TaskFile read_task(const TextInput& input, std::vector<std::string>& remarks) {
  TaskFile task{.path = input.path};
  TextFile file(input);
  AnswersApart answers(input.path);
  while (const std::optional<std::string> line = file.next_line()) {
    const std::string where = file.line_name();
    Json row = parse_json(*line, where, row_limits());
    expect_form(row, where, task.form);
    if (task.form->apart != nullptr) answers.complete(row, task.form->apart, where);
    JsonFields fields(row, where);
    task.questions.push_back(task.form->read(fields));
    task.questions.back().line = file.line_number();
    if (task.questions.size() > kMostQuestions)
      throw Error(where, "is one of more than " + std::to_string(kMostQuestions) + " questions");
  }
  answers.finish();
  // Of a file with another name they are about its documents, which are not what is read here.
  if (file.is_json())
    for (std::string& remark : file.remarks()) remarks.push_back(std::move(remark));
  if (task.questions.empty())
    throw Error(input.path, "has no question", "one JSON object a line, with " + known_fields());
  return task;
}

}  // namespace ptq
