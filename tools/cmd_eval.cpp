// quantize eval: perplexity of a model on a text, or its answers to tasks, alone or against another model.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "commands.h"
#include "eval_tasks.h"
#include "ptq/base/error.h"
#include "ptq/base/pattern.h"
#include "ptq/base/stream_input.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/evaluate.h"
#include "ptq/export/formats.h"
#include "ptq/pipeline/run.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

constexpr int64_t kWindow = 2048;  // tokens

std::string json_text(const Json& json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json result_json(const LossSums& sums, int64_t seq_len, bool against) {
  Json json = {{"perplexity", sums.perplexity()},
               {"mean_nll", sums.mean_nll()},
               {"tokens", sums.tokens},
               {"seq_len", seq_len}};
  if (against) {
    const auto tokens = static_cast<double>(sums.tokens);
    json["against"] = {{"perplexity", sums.reference_perplexity()},
                       {"mean_kl", sums.kl / tokens},
                       {"top1_agreement", static_cast<double>(sums.agreeing) / tokens}};
  }
  return json;
}

// Every pattern of --ignore-tensors must be one of one of the models.
void expect_ignored(const std::vector<std::string>& patterns, const Checkpoint& a, const Checkpoint& b) {
  std::vector<std::string> names = a.ignored();
  names.insert(names.end(), b.ignored().begin(), b.ignored().end());
  for (const std::string& pattern : patterns) {
    if (std::none_of(names.begin(), names.end(),
                     [&](const std::string& name) { return matches_pattern(pattern, name); }))
      throw usage_error("--ignore-tensors", "no tensor matches \"" + pattern + "\"");
  }
}

std::string result_text(const Json& json) {
  std::string text = "perplexity " + format_number(json["perplexity"].get<double>(), 4) + "  (mean NLL " +
                     format_number(json["mean_nll"].get<double>(), 6) + " nats, " +
                     std::to_string(json["tokens"].get<int64_t>()) + " tokens, windows of " +
                     std::to_string(json["seq_len"].get<int64_t>()) +
                     (json.contains("decoded") ? ", token by token" : "") + ")\n";
  if (json.contains("against")) {
    const Json& against = json["against"];
    text +=
        "against    " + format_number(against["perplexity"].get<double>(), 4) + "  (" +
        format_number((json["perplexity"].get<double>() / against["perplexity"].get<double>() - 1) * 100, 3) +
        " % more; KL " + format_number(against["mean_kl"].get<double>(), 6) +
        " nats a token, same top token " + format_number(against["top1_agreement"].get<double>() * 100, 2) +
        " %)\n";
  }
  return text;
}

void eval_text(const EvalOptions& options, const CommonOptions& common, const OpenModel& open,
               const OpenModel& reference, const Compute& compute) {
  std::vector<std::string> warnings;
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(common.tokenizer, open, warnings);
  const TokenSource source{{options.text, common.text_field, text_of_stream(options.text)},
                           common.token_dtype};
  const std::vector<int64_t> ids =
      read_tokens(source, tokenizer.get(), open.model->vocab_size(),
                  options.max_tokens > 0 ? options.max_tokens : kAllTokens, warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  int64_t seq_len = options.seq_len.value_or(kWindow);
  if (open.model->context_limit() > 0) seq_len = std::min(seq_len, open.model->context_limit());
  const Tensor windows = evaluation_windows(ids, seq_len, options.text);

  Progress progress(common.status_line, common.quiet ? ProgressStyle::kQuiet : ProgressStyle::kNormal);
  progress.start("evaluating", evaluation_steps(*open.model, windows, reference.model.get()));
  const LossSums sums = evaluate(
      *open.model, windows, reference.model.get(), [&] { progress.advance(); }, compute,
      options.decode ? Feeding::kTokens : Feeding::kWindows);
  progress.finished();
  const OpenModel& float_model = options.against.empty() ? open : reference;
  const double float_perplexity = options.against.empty() ? sums.perplexity() : sums.reference_perplexity();
  const std::string warning = chance_warning(float_perplexity, float_model.model->vocab_size(), options.text);
  if (!warning.empty()) spdlog::warn("{}", warning);
  Json json = result_json(sums, windows.size(1), !options.against.empty());
  if (options.decode) json["decoded"] = true;
  print(common.json ? json_text(json) : result_text(json));
}

// Throws a usage Error for options of the other kind of measuring, and where nothing is to be measured.
void expect_fitting(const EvalOptions& options) {
  const bool asks = !options.tasks.empty();
  if (asks == !options.text.empty()) {
    throw usage_error("--text", asks ? "does not go with --task" : "is missing, and so is --task",
                      "--text FILE for perplexity on a text, or --task FILE for answers to questions");
  }
  if (asks && options.max_tokens > 0)
    throw usage_error("--max-tokens", "is for --text", "--limit N for the first N questions");
  if (asks && options.decode) throw usage_error("--decode", "is for --text", "--task asks of whole texts");
  const char* const of_tasks = options.limit > 0             ? "--limit"
                               : options.shots > 0           ? "--shots"
                               : !options.shots_from.empty() ? "--shots-from"
                               : options.seed.has_value()    ? "--seed"
                                                             : nullptr;
  if (!asks && of_tasks != nullptr) throw usage_error(of_tasks, "is for --task", "--task FILE");
  if (!options.shots_from.empty() && options.shots == 0)
    throw usage_error("--shots-from", "is given without --shots", "--shots N");
}

}  // namespace

void eval_command(const EvalOptions& options, const CommonOptions& common) {
  expect_fitting(options);
  CheckpointOptions checkpoint = common.checkpoint;
  checkpoint.ignore_must_match = options.against.empty();
  Compute compute = compute_of(options.compute, options.model, checkpoint);
  compute.simulated = options.simulate;
  const OpenModel open = open_any_model(options.model, checkpoint, common.torch_device());
  log_warnings(open);
  OpenModel reference;
  if (!options.against.empty()) {
    CheckpointOptions plain;
    plain.ignore = checkpoint.ignore;
    plain.ignore_must_match = false;
    reference = open_any_model(options.against, plain, common.torch_device());
    log_warnings(reference);
    expect_ignored(checkpoint.ignore, *open.checkpoint, *reference.checkpoint);
    if (reference.model->vocab_size() != open.model->vocab_size()) {
      throw Error(options.against,
                  "has a vocabulary of " + std::to_string(reference.model->vocab_size()) + " entries, " +
                      options.model + " one of " + std::to_string(open.model->vocab_size()),
                  "two models of the same vocabulary");
    }
  }
  if (!options.tasks.empty()) {
    const Json json = eval_tasks(options, common, open, reference, compute);
    return print(common.json ? json_text(json) : eval_tasks_text(json));
  }
  eval_text(options, common, open, reference, compute);
}

}  // namespace ptq
