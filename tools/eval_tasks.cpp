#include "eval_tasks.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <deque>

#include "ptq/base/error.h"
#include "ptq/base/stream_input.h"
#include "ptq/engine/tasks.h"
#include "ptq/pipeline/run.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

constexpr int64_t kLengthWithoutLimit = 2048;  // the harness's, for models that have no limit

constexpr uint64_t kSeed = 1234;  // the harness's

// A file of --task on its way to a model.
struct Asked {
  TaskFile file;
  TaskTokens tokens;
};

// Tokens that a text may have: what every model sees.
int64_t most_tokens(const EvalOptions& options, const OpenModel& open, const OpenModel& reference) {
  int64_t most = options.seq_len.value_or(0);
  for (const OpenModel* model : {&open, &reference}) {
    const int64_t limit = model->model ? model->model->context_limit() : 0;
    if (limit > 0) most = most > 0 ? std::min(most, limit) : limit;
  }
  return most > 0 ? most : kLengthWithoutLimit;
}

TaskFile read(const std::string& path) {
  std::vector<std::string> remarks;
  TaskFile file = read_task({.path = path, .content = text_of_stream(path)}, remarks);
  for (const std::string& remark : remarks) spdlog::warn("{}", remark);
  return file;
}

std::deque<Asked> read_all(const EvalOptions& options, const Tokenizer& tokenizer, const Model& model,
                           int64_t most) {
  std::optional<TaskFile> pool;
  if (!options.shots_from.empty()) pool = read(options.shots_from);
  std::deque<Asked> all;
  for (const std::string& path : options.tasks) {
    Asked& asked = all.emplace_back();
    asked.file = read(path);
    const size_t questions = asked.file.questions.size();
    const size_t count =
        options.limit > 0 ? std::min(questions, static_cast<size_t>(options.limit)) : questions;
    const std::vector<std::string> preambles = task_preambles(
        asked.file,
        {.count = options.shots, .seed = options.seed.value_or(kSeed), .from = pool ? &*pool : nullptr},
        count);
    asked.tokens = encode_task(asked.file, preambles, tokenizer, model, most);
    if (asked.tokens.cut > 0) {
      spdlog::warn("{}: {} texts of more than {} tokens lost their beginning", path, asked.tokens.cut, most);
    }
  }
  return all;
}

std::vector<TaskScores> scores_of(const Model& model, const std::deque<Asked>& all, Progress& progress,
                                  const Compute& compute) {
  std::vector<TaskScores> scores;
  for (const Asked& asked : all) {
    const auto on_tokens = [&](int64_t tokens) { progress.advance(tokens, asked.file.name()); };
    scores.push_back(score_task(asked.file, likelihoods(model, asked.tokens.questions, on_tokens, compute)));
  }
  return scores;
}

int64_t steps_of(const OpenModel& open, const std::deque<Asked>& all) {
  int64_t steps = 0;
  for (const Asked& asked : all) {
    if (open.model) steps += likelihood_steps(*open.model, asked.tokens.questions);
  }
  return steps;
}

void add_estimate(Json& json, const std::string& name, const Estimate& estimate) {
  json[name] = estimate.value;
  json[name + "_stderr"] = estimate.standard_error ? Json(*estimate.standard_error) : Json(nullptr);
}

Json scores_json(const TaskScores& scores) {
  Json json = Json::object();
  add_estimate(json, "acc", scores.accuracy);
  if (scores.normalized_accuracy) add_estimate(json, "acc_norm", *scores.normalized_accuracy);
  if (scores.perplexity) add_estimate(json, "perplexity", *scores.perplexity);
  json["mean_log_likelihood"] = scores.mean_log_likelihood;
  if (scores.subjects.empty()) return json;
  Json& subjects = json["subjects"] = Json::object();
  for (const auto& [subject, accuracy] : scores.subjects) add_estimate(subjects[subject], "acc", accuracy);
  return json;
}

// What another model answered otherwise.
void add_changes(Json& json, const TaskFile& file, const TaskScores& scores, const TaskScores& reference) {
  json["acc_difference"] = scores.accuracy.value - reference.accuracy.value;
  int64_t gained = 0, lost = 0;
  Json changed = Json::array();
  for (size_t i = 0; i < scores.answers.size(); ++i) {
    const TaskAnswer &is = scores.answers[i], &was = reference.answers[i];
    gained += is.right && !was.right ? 1 : 0;
    lost += was.right && !is.right ? 1 : 0;
    if (is.right == was.right && is.choice == was.choice) continue;
    Json change = {{"line", file.questions[i].line}, {"right", is.right}, {"right_against", was.right}};
    if (file.questions[i].continuations.size() > 1) {
      change["choice"] = is.choice;
      change["choice_against"] = was.choice;
      change["answer"] = file.questions[i].answer;
    }
    changed.push_back(change);
  }
  json["became_right"] = gained;
  json["became_wrong"] = lost;
  json["changed"] = changed;
}

std::string estimate_text(const Json& scores, const std::string& name, int digits) {
  if (!scores.contains(name)) return "";
  const Json& error = scores[name + "_stderr"];
  return format_number(scores[name].get<double>(), digits) +
         (error.is_null() ? "" : " (" + format_number(error.get<double>(), digits) + ")");
}

}  // namespace

Json eval_tasks(const EvalOptions& options, const CommonOptions& common, const OpenModel& open,
                const OpenModel& reference, const Compute& compute) {
  std::vector<std::string> warnings;
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(common.tokenizer, open, warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (!tokenizer)
    throw Error(options.model, "has no tokenizer.json, and tasks are texts", "--tokenizer FILE");
  const int64_t most = most_tokens(options, open, reference);
  const std::deque<Asked> all = read_all(options, *tokenizer, *open.model, most);

  Progress progress(common.status_line, common.quiet ? ProgressStyle::kQuiet : ProgressStyle::kNormal);
  progress.start("asking", steps_of(open, all) + steps_of(reference, all));
  const std::vector<TaskScores> scores = scores_of(*open.model, all, progress, compute);
  std::vector<TaskScores> others;
  if (reference.model) others = scores_of(*reference.model, all, progress, {});
  progress.finished();

  Json tasks = Json::array();
  for (size_t i = 0; i < all.size(); ++i) {
    Json task = {{"task", all[i].file.name()},
                 {"file", all[i].file.path},
                 {"questions", all[i].tokens.questions.size()},
                 {"cut", all[i].tokens.cut}};
    task.update(scores_json(scores[i]));
    if (reference.model) {
      task["against"] = scores_json(others[i]);
      add_changes(task["against"], all[i].file, scores[i], others[i]);
    }
    tasks.push_back(task);
  }
  return {
      {"shots", options.shots}, {"seed", options.seed.value_or(kSeed)}, {"seq_len", most}, {"tasks", tasks}};
}

std::string eval_tasks_text(const Json& json) {
  std::vector<std::vector<std::string>> rows;
  std::string changes;
  const auto add_row = [&](const std::string& name, const std::string& questions, const Json& scores) {
    rows.push_back({name, questions, estimate_text(scores, "acc", 4), estimate_text(scores, "acc_norm", 4),
                    estimate_text(scores, "perplexity", 3)});
  };
  for (const Json& task : json["tasks"]) {
    const auto name = task["task"].get<std::string>();
    const std::string questions = std::to_string(task["questions"].get<int64_t>());
    add_row(name, questions, task);
    if (!task.contains("against")) continue;
    const Json& against = task["against"];
    add_row("  against", "", against);
    changes += name + ": " + std::to_string(against["changed"].size()) + " of " + questions +
               " answers changed; " + std::to_string(against["became_right"].get<int64_t>()) +
               " became right, " + std::to_string(against["became_wrong"].get<int64_t>()) +
               " became wrong; accuracy " + format_number(against["acc_difference"].get<double>() * 100, 2) +
               " points more\n";
  }
  return std::to_string(json["shots"].get<int64_t>()) + " shots; standard errors in brackets\n\n" +
         text_table({"task", "questions", "acc", "acc_norm", "perplexity"}, rows) +
         (changes.empty() ? "" : "\n" + changes);
}

}  // namespace ptq
