#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/task_forms.h"
#include "ptq/engine/evaluate.h"

namespace ptq {
namespace {

// Sums in order, as the harness has them.
Estimate estimate(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  Estimate result{.value = sum / count};
  if (values.size() < 2) return result;
  for (const double value : values) squares += (value - result.value) * (value - result.value);
  result.standard_error = std::sqrt(squares / (count - 1)) / std::sqrt(count);
  return result;
}

TaskAnswer answer_of(const TaskQuestion& question, const TaskForm& form,
                     const std::vector<Likelihood>& likelihoods) {
  std::vector<double> sums, by_length;
  for (size_t i = 0; i < likelihoods.size(); ++i) {
    sums.push_back(likelihoods[i].log_likelihood);
    by_length.push_back(sums.back() / static_cast<double>(question.lengths[i]));
  }
  TaskAnswer answer;
  answer.choice = std::max_element(sums.begin(), sums.end()) - sums.begin();
  answer.normalized = std::max_element(by_length.begin(), by_length.end()) - by_length.begin();
  answer.right = form.last_word ? likelihoods.front().greedy : answer.choice == question.answer;
  answer.normalized_right = answer.normalized == question.answer;
  answer.log_likelihood = sums[static_cast<size_t>(question.answer)];
  return answer;
}

}  // namespace

TaskScores score_task(const TaskFile& task, const std::vector<std::vector<Likelihood>>& likelihoods) {
  TaskScores scores;
  std::vector<double> right, normalized_right, logarithms;
  std::map<std::string, std::vector<double>> by_subject;
  for (size_t i = 0; i < likelihoods.size(); ++i) {
    const TaskQuestion& question = task.questions[i];
    const TaskAnswer& answer = scores.answers.emplace_back(answer_of(question, *task.form, likelihoods[i]));
    right.push_back(answer.right ? 1 : 0);
    normalized_right.push_back(answer.normalized_right ? 1 : 0);
    logarithms.push_back(answer.log_likelihood);
    if (!question.subject.empty()) by_subject[question.subject].push_back(right.back());
  }
  scores.accuracy = estimate(right);
  if (task.form->normalizes) scores.normalized_accuracy = estimate(normalized_right);
  const Estimate mean = estimate(logarithms);
  scores.mean_log_likelihood = mean.value;
  if (task.form->last_word) {
    Estimate& perplexity =
        scores.perplexity.emplace(Estimate{.value = perplexity_of(-mean.value, "the model")});
    if (mean.standard_error) perplexity.standard_error = *mean.standard_error * perplexity.value;
  }
  for (const auto& [subject, values] : by_subject) scores.subjects[subject] = estimate(values);
  return scores;
}

}  // namespace ptq
