// Examples before a question: which ones the harness would draw.
#include <algorithm>

#include "engine/python_random.h"
#include "engine/task_forms.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

using Questions = std::vector<const TaskQuestion*>;

[[noreturn]] void throw_too_few(const TaskFile& pool, const TaskQuestion& asked, size_t found,
                                int64_t wanted) {
  const std::string whose = asked.subject.empty() ? "" : " of the subject \"" + asked.subject + "\"";
  throw Error(pool.path,
              "has " + std::to_string(found) + " questions" + whose + " beside the one asked; --shots " +
                  std::to_string(wanted) + " needs " + std::to_string(wanted),
              "fewer shots, or --shots-from FILE");
}

// Draws for one question after the other: what is drawn depends on what was drawn before.
class Drawing {
 public:
  Drawing(const TaskFile& task, const ShotOptions& shots)
      : pool_(shots.from == nullptr ? task : *shots.from),
        count_(shots.count),
        draw_(shots.from == nullptr && task.form->draw == Draw::kAsked ? Draw::kOneMore : task.form->draw),
        is_own_(shots.from == nullptr),
        random_(shots.seed) {}

  Questions next(const TaskQuestion& asked) {
    if (draw_ == Draw::kFirst) return first_of_subject(asked);
    const int64_t population = static_cast<int64_t>(pool_.questions.size());
    const int64_t drawn = draw_ == Draw::kOneMore ? count_ + 1 : count_;
    if (drawn > population)
      throw_too_few(pool_, asked, pool_.questions.size() - (draw_ == Draw::kOneMore ? 1 : 0), count_);
    Questions examples = taken(everything(), drawn);
    if (draw_ == Draw::kAsked) return examples;
    const auto is_asked = [&](const TaskQuestion* example) { return example->same_as(asked); };
    std::erase_if(examples, is_asked);
    if (static_cast<int64_t>(examples.size()) < count_) {
      Questions others = everything();
      std::erase_if(others, is_asked);
      if (static_cast<int64_t>(others.size()) < count_) throw_too_few(pool_, asked, others.size(), count_);
      return taken(others, count_);
    }
    examples.resize(static_cast<size_t>(count_));
    return examples;
  }

 private:
  Questions everything() const {
    Questions all;
    for (const TaskQuestion& question : pool_.questions) all.push_back(&question);
    return all;
  }

  Questions taken(const Questions& from, int64_t count) {
    Questions examples;
    for (const int64_t index : random_.sample(static_cast<int64_t>(from.size()), count))
      examples.push_back(from[static_cast<size_t>(index)]);
    return examples;
  }

  Questions first_of_subject(const TaskQuestion& asked) const {
    Questions examples;
    for (const TaskQuestion& question : pool_.questions) {
      if (static_cast<int64_t>(examples.size()) == count_) break;
      if (question.subject != asked.subject || (is_own_ && question.same_as(asked))) continue;
      examples.push_back(&question);
    }
    if (static_cast<int64_t>(examples.size()) < count_) throw_too_few(pool_, asked, examples.size(), count_);
    return examples;
  }

  const TaskFile& pool_;
  int64_t count_;
  Draw draw_;
  bool is_own_;
  PythonRandom random_;
};

}  // namespace

std::vector<std::string> task_preambles(const TaskFile& task, const ShotOptions& shots, size_t count) {
  if (shots.from != nullptr && shots.from->form != task.form)
    throw Error(shots.from->path,
                "has rows of " + shots.from->name() + ", " + task.path + " those of " + task.name(),
                "--shots-from with a file of the same data set");
  Drawing drawing(task, shots);
  std::vector<std::string> preambles;
  for (size_t i = 0; i < count; ++i) {
    const TaskQuestion& asked = task.questions[i];
    std::string& text = preambles.emplace_back(asked.description);
    if (shots.count == 0) continue;
    for (const TaskQuestion* example : drawing.next(asked)) text += example->example;
  }
  return preambles;
}

}  // namespace ptq
