// quantize MODEL: the default verb.
#include <fmt/format.h>

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <spdlog/spdlog.h>

#include "exports_of_run.h"
#include "failure.h"
#include "ptq/base/error.h"
#include "ptq/base/log.h"
#include "ptq/base/shell.h"
#include "ptq/base/stream_input.h"
#include "ptq/comm/launch.h"
#include "ptq/pipeline/memory_bound.h"
#include "ptq/pipeline/run.h"
#include "runtimes_of_run.h"

namespace ptq {
namespace {

// "5GB", "500MB", "1000000".
int64_t parse_bytes(const std::string& option, const std::string& text) {
  double number = 0;
  const auto [unit_begin, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(unit_begin, static_cast<size_t>(text.data() + text.size() - unit_begin));
  double factor = 0;
  if (unit.empty() || unit == "B") factor = 1;
  if (unit == "KB" || unit == "kB") factor = 1e3;
  if (unit == "MB") factor = 1e6;
  if (unit == "GB") factor = 1e9;
  const double bytes = failed == std::errc() ? number * factor : 0;
  if (!(bytes >= 1 && bytes < 1e15)) {
    throw usage_error(option, fmt::format("\"{}\" is not a size", text), "5GB, 500MB");
  }
  return static_cast<int64_t>(bytes);
}

// "10s", "500ms", "2m", "1h"; seconds without a unit.
double parse_seconds(const std::string& option, const std::string& text, double least = 0) {
  double number = -1;
  const auto [unit_begin, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(unit_begin, static_cast<size_t>(text.data() + text.size() - unit_begin));
  double factor = -1;
  if (unit == "ms") factor = 1e-3;
  if (unit.empty() || unit == "s") factor = 1;
  if (unit == "m" || unit == "min") factor = 60;
  if (unit == "h") factor = 3600;
  const bool valid = failed == std::errc() && number >= 0 && number <= 1e6 && factor > 0;
  if (!valid) throw usage_error(option, fmt::format("\"{}\" is not a duration", text), "10s, 5m, 0");
  if (number * factor < least)
    throw usage_error(option, fmt::format("{} is less than {} s", text, format_number(least, 0)));
  return number * factor;
}

// What to type to go on: after `--` an option would be a file.
std::string resume_command(const std::vector<std::string>& words, bool resumes) {
  std::string line;
  for (const std::string& word : words) {
    if (word == "--" && !std::exchange(resumes, true)) line += "--resume ";
    line += shell_word(word) + " ";
  }
  if (!resumes) return line + "--resume";
  line.pop_back();
  return line;
}

// Of the architecture of the model at `path`; none if it cannot be opened, which is said elsewhere.
std::vector<std::string> families_of(const std::string& path, const CheckpointOptions& options) {
  try {
    if (const FormatEntry* format = find_foreign_format(path))
      return format->open(path, options, at::kMeta).architecture->families;
    const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path, options);
    const ArchitectureEntry* entry = match_architecture(FloatSource(*checkpoint, at::kMeta));
    return entry == nullptr ? std::vector<std::string>() : entry->families;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

Recipe recipe_of_run(const QuantizeOptions& options, const CommonOptions& common) {
  RecipeOptions recipe_options = options.recipe;
  if (recipe_options.method.empty() && recipe_options.file.empty() && !options.model.empty())
    recipe_options.families = families_of(options.model, common.checkpoint);
  if (options.samples) recipe_options.sets.push_back("samples=" + std::to_string(*options.samples));
  if (options.seq_len) recipe_options.sets.push_back("seq_len=" + std::to_string(*options.seq_len));
  return resolve_recipe(recipe_options);
}

std::optional<int64_t> max_memory_bytes(const QuantizeOptions& options) {
  if (!options.max_memory.empty()) return parse_bytes("--max-memory", options.max_memory);
  const char* const variable = std::getenv("PTQ_MAX_MEMORY");
  if (variable == nullptr || *variable == '\0') return {};
  return parse_bytes("PTQ_MAX_MEMORY", variable);
}

RunOptions options_of_run(const QuantizeOptions& options, const CommonOptions& common, const Recipe& recipe) {
  if (options.model.empty())
    throw usage_error("MODEL", "is missing: which checkpoint?", "quantize --method quamba model.pt");
  RunOptions run_options;
  run_options.model_path = options.model;
  run_options.checkpoint = common.checkpoint;
  run_options.output = options.output.empty() ? default_output(options.model, recipe) : options.output;
  run_options.force = options.force;
  run_options.calibration = options.calibration;
  for (const std::string& path : options.calibration) {
    if (path.empty()) throw usage_error("--calib", "the name of a file is empty");
  }
  run_options.tokenizer = common.tokenizer;
  run_options.token_dtype = common.token_dtype;
  run_options.seed = options.seed;
  run_options.text_field = common.text_field;
  run_options.eval_text = options.eval_text;
  std::vector<std::string> texts = options.calibration;
  if (!options.eval_text.empty()) texts.push_back(options.eval_text);
  for (const std::string& path : texts) {
    if (run_options.piped.contains(path)) continue;
    if (auto content = text_of_stream(path)) run_options.piped[path] = std::move(content);
  }
  run_options.device = common.torch_device();
  run_options.max_shard_bytes = parse_bytes("--max-shard-size", options.max_shard_size);
  run_options.strict = options.strict;
  run_options.resume = options.resume;
  run_options.save_every_seconds = parse_seconds("--save-every", options.save_every);
  run_options.hidden_states_in_file = options.hidden_states == "file";
  if (run_options.hidden_states_in_file && !run_options.device.is_cpu() && !run_options.device.is_meta())
    throw usage_error("--hidden-states", "a file can hold them in a run on the CPU only", "--device cpu");
  run_options.resume_command = resume_command(common.words, options.resume);
  run_options.program = program_json();
  return run_options;
}

namespace {

// The processes of the run; null if this is the only one. Of them the first alone speaks, unless asked.
std::shared_ptr<Processes> join_processes(const QuantizeOptions& options, const CommonOptions& common,
                                          const RunOptions& run_options) {
  constexpr double kLeastPatience = 2;
  const double patience = parse_seconds("--distributed-timeout", options.patience, kLeastPatience);
  if (!options.distributed) return nullptr;
  if (!run_options.device.is_cpu())
    throw usage_error("--distributed", "several processes compute on the CPU only", "--device cpu");
  if (run_options.hidden_states_in_file)
    throw usage_error("--hidden-states", "stay in memory where several processes share them",
                      "more processes, each of which has a part, or one without --distributed");
  const Launch launch = launch_from_environment();
  if (launch.rank > 0)
    setup_logging({.quiet = common.quiet, .verbose = common.verbose, .rank = launch.rank},
                  common.status_line);
  // A peer that is gone is told by what a write returns.
  std::signal(SIGPIPE, SIG_IGN);
  auto processes = std::make_shared<Processes>(launch, patience);
  spdlog::info("{} processes share the run", launch.size);
  return processes;
}

// The run, and on the first process what is printed and exported after it.
void quantize(const QuantizeOptions& options, const CommonOptions& common, const Recipe& recipe,
              RunOptions run_options) {
  const std::optional<int64_t> bound = max_memory_bytes(options);
  if (bound) {
    Progress progress(common.status_line, ProgressStyle::kQuiet);
    run_options = within_memory(run_options, recipe, *bound, progress).options;
  }
  const bool is_first = run_options.processes == nullptr || run_options.processes->is_first();
  std::vector<ExportOfRun> exports;
  if (is_first) exports = exports_of_run(options.formats, run_options, recipe);
  Progress progress(common.status_line,
                    common.quiet || !is_first ? ProgressStyle::kQuiet : ProgressStyle::kNormal);
  const Report report = run(run_options, recipe, progress);
  if (!is_first) return;
  print(common.json ? to_json(report).dump(1) + "\n" : summary(report, run_options.output));
  if (bound && report.peak_rss_bytes > *bound)
    spdlog::warn(
        "the run has needed {} of memory, more than the {} of --max-memory: the estimate was too low",
        format_bytes(report.peak_rss_bytes), format_bytes(*bound));
  for (const ExportOfRun& wanted : exports) {
    const OpenModel artifact = open_model(run_options.output, {}, run_options.device);
    const ExportResult done = wanted.format->write(artifact, wanted.target);
    if (common.json) {
      spdlog::info("{} was written", wanted.target.output);  // stdout is the report
    } else {
      print(done.text);
    }
  }
}

}  // namespace

void quantize_command(const QuantizeOptions& options, const CommonOptions& common) {
  const Recipe recipe = recipe_of_run(options, common);
  if (options.print_recipe) {
    print(recipe.to_json().dump(2) + "\n");
    return;
  }
  RunOptions run_options = options_of_run(options, common, recipe);
  expect_loaded(answers_of_run(options.runtimes, run_options, recipe));
  run_options.processes = join_processes(options, common, run_options);
  if (run_options.processes == nullptr) return quantize(options, common, recipe, run_options);
  try {
    quantize(options, common, recipe, run_options);
    run_options.processes->leave();
  } catch (...) {
    run_options.processes->fail(failure_of_exception());
  }
}

}  // namespace ptq
