// The loop of a run: start reading here.
//
// A checkpoint is opened, its headers checked and its windows of calibration tokens made. Then block
// after block is read, taken through the recipe's steps (block_pass.cpp), measured and written, while the
// hidden states of the float model move along. Several processes take each block through the steps
// together (shared_windows.h); the first of them alone measures and writes. From time to time all that is
// kept in run_state.h, for --resume. At the end the artifact is read back and its perplexity compared
// with the float model's.
#include "ptq/pipeline/run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <new>

#include "pipeline/block_pass.h"
#include "pipeline/calibrate.h"
#include "pipeline/measure.h"
#include "pipeline/opening.h"
#include "pipeline/quality.h"
#include "pipeline/routing.h"
#include "pipeline/run_identity.h"
#include "pipeline/run_state.h"
#include "pipeline/shared_windows.h"
#include "ptq/artifact/companions.h"
#include "ptq/artifact/writer.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"
#include "ptq/base/output.h"
#include "ptq/base/work_directory.h"
#include "ptq/calibration/stream.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/evaluate.h"
#include "ptq/model/listed_source.h"

namespace ptq {
namespace {

// Embedding, final norm and head.
void write_outer_weights(Model& model, const Recipe& recipe, ArtifactWriter& writer, Report& report) {
  for (Weight* weight : model.outer_weights()) {
    const Weight written = outer_weight_as_written(*weight, model, recipe, report.decisions);
    if (written.quantized()) report.layers.push_back(weight_row(*weight, written));
    writer.add(written);
  }
}

// With the checksums of its files.
Json describe_source(const RunOptions& options, const OpenModel& open) {
  Json source = source_json(options, open);
  Json files = Json::object();
  for (const std::string& path : open.checkpoint->files()) files[file_label(path)] = sha256_file(path);
  source["files"] = files;
  return source;
}

// Bytes of every file; what a parameter costs in the weight files.
void measure_sizes(const std::vector<std::string>& weight_files, OutputDirectory& output, int64_t parameters,
                   Report& report) {
  for (const std::string& file : output.files()) {
    const auto bytes = static_cast<int64_t>(std::filesystem::file_size(output.path(file)));
    report.output_files[file] = bytes;
    const bool holds_weights =
        std::find(weight_files.begin(), weight_files.end(), file) != weight_files.end();
    if (holds_weights) report.output_bytes += bytes;
  }
  for (const LayerRow& row : report.layers) {
    if (row.correction) report.correction_bytes += row.correction->bytes;
  }
  const auto bits_of = [parameters](int64_t bytes) {
    return 8 * static_cast<double>(bytes) / static_cast<double>(parameters);
  };
  report.bits_per_weight = bits_of(report.output_bytes);
  report.bits_per_weight_without_correction = bits_of(report.output_bytes - report.correction_bytes);
}

// Where a run writes.
struct RunOutput {
  explicit RunOutput(const RunOptions& options)
      : work(output_path(options.output, options.force)),
        directory(options.output, options.force, work.path("output")) {}

  WorkDirectory work;
  OutputDirectory directory;
};

// A run, and what it has to say so far.
struct Run {
  const RunOptions& options;
  const Recipe& recipe;
  Progress& progress;
  Processes& processes;
  std::optional<RunOutput> output{};  // the first process's
  Report report{};
  StageTimes times{};
};

// The hidden states before the first block, of windows that are split so; `name` is that of their file.
Stream embedded(Run& run, const Model& model, const Tensor& ids, const WindowSplit& split,
                const std::string& name) {
  if (!run.options.hidden_states_in_file) return Stream(embed_windows(model, ids), split);
  Stream stream(run.output->work.path(), {ids.size(0), ids.size(1), model.hidden_size()}, split, name);
  embed_windows(model, ids, stream.hidden());
  return stream;
}

// Of the windows that this process has.
Streams embedded(Run& run, const Model& model, const CalibrationWindows& windows, const WindowShare& own) {
  const WindowSplit split = own.split();
  const Tensor ids = own.of(windows.ids);
  Streams streams{embedded(run, model, ids, split, "stream"), Stream(model.hidden_size()), own.batches()};
  if (run.recipe.feedback.is_on()) {
    streams.rounded = embedded(run, model, ids.slice(0, 0, split.calibrated),
                               WindowSplit::measured_on_calibrated(split.calibrated), "rounded");
  }
  return streams;
}

// The first process, where a run that was stopped had come to. False if there is none.
bool load_state(Run& run, const OpenModel& open, RunState& state, BlockLoop& loop) {
  if (!run.options.resume) return false;
  if (!run.output->work.keeps_state()) {
    spdlog::info("nothing to resume: the run starts at its beginning");
    return false;
  }
  const StageTimer timer(run.times, "load state");
  state.load(*open.model, run.output->directory, run.options.max_shard_bytes, loop, run.report, run.times);
  spdlog::info("going on after block {} of {}", loop.finished, open.model->num_blocks());
  return true;
}

// The first process, with fresh windows.
void make_windows(Run& run, const OpenModel& open, bool needs_data, const Tokenizer* tokenizer,
                  RunState& state, BlockLoop& loop) {
  loop.windows = calibration_windows(run.options, run.recipe, *open.model, tokenizer, needs_data,
                                     run.progress, run.report.warnings);
  run.report.calibration = loop.windows.json;
  WorkDirectory& work = run.output->work;
  if (work.keeps_state()) {
    spdlog::warn(
        "{} is dropped, in which a run that was stopped has left its state; --resume goes on from it",
        work.path());
    work.clear();
  }
  loop.writer = state.make_writer(run.output->directory, run.options.max_shard_bytes);
}

// `state` is the first process's here and below, and null elsewhere.
void save_state(Run& run, RunState* state, BlockLoop& loop) {
  if (state != nullptr) {
    state->save(loop, run.report, run.times);
    return;
  }
  for (const Stream* states : {&loop.streams.floats, &loop.streams.rounded}) {
    if (!states->empty()) send_to_first(*states, run.processes);
  }
}

// Begins with fresh windows, or where a run that was stopped had come to.
void begin_loop(Run& run, const OpenModel& open, bool needs_data, const Tokenizer* tokenizer, RunState* state,
                BlockLoop& loop) {
  const bool resumes = run.processes.any(state != nullptr && load_state(run, open, *state, loop));
  std::optional<StageTimer> timer;
  if (!resumes) timer.emplace(run.times, "calibration tokens");
  if (!resumes && state != nullptr) make_windows(run, open, needs_data, tokenizer, *state, loop);
  tell_windows(loop.windows, loop.finished, run.processes);
  if (loop.windows.empty()) return;
  const WindowShare own(loop.windows.split, loop.windows.ids.size(0), loop.windows.ids.size(1),
                        run.processes.rank(), run.processes.size());
  if (resumes) {
    const int64_t d_model = open.model->hidden_size();
    scatter(loop.streams.floats, loop.windows, d_model, run.processes);
    if (run.recipe.feedback.is_on())
      scatter_calibrated(loop.streams.rounded, loop.windows, d_model, run.processes);
    loop.streams.calibrated = own.batches();
    return;
  }
  loop.streams = embedded(run, *open.model, loop.windows, own);
  // To write a text may take longer than a block.
  const bool is_due =
      state != nullptr && run.options.calibration.empty() && state->is_due(run.options.save_every_seconds);
  if (!run.processes.any(is_due)) return;
  save_state(run, state, loop);
  spdlog::debug("the calibration text is kept");
}

void save_blocks(Run& run, const Model& model, RunState* state, BlockLoop& loop) {
  const StageTimer timer(run.times, "save state");
  save_state(run, state, loop);
  spdlog::debug("block {} of {} is kept", loop.finished, model.num_blocks());
}

// The blocks that are left. After a signal one process finishes and keeps its block first; several end at
// once, with what was kept last, because launchers wait only some seconds.
void quantize_blocks(Run& run, const Model& model, const BlockPass& pass, RunState* state, BlockLoop& loop) {
  run.progress.start("quantizing", model.num_blocks() - loop.finished);
  std::optional<InterruptDeferral> deferral;
  if (run.processes.is_alone()) {
    deferral.emplace(
        "\nstopping after this block, so that --resume can go on from there; once more stops at once\n");
  }
  while (loop.finished < model.num_blocks() && !interrupted()) {
    const std::unique_ptr<Block> block = model.load_block(loop.finished);
    pass.apply(*block, loop.streams, run.times, run.report, run.processes);
    if (loop.writer != nullptr) {
      const StageTimer timer(run.times, "write");
      loop.writer->add(*block);
    }
    // Tensors of many sizes come and go in a block: without this the heap grows from block to block.
    return_free_memory();
    ++loop.finished;
    spdlog::debug("block {} of {} is finished", loop.finished, model.num_blocks());
    const bool is_due = state != nullptr && state->is_due(run.options.save_every_seconds);
    if (run.processes.any(is_due)) save_blocks(run, model, state, loop);
    run.progress.advance(1, block->prefix());
  }
  if (!run.processes.is_alone()) throw_if_interrupted();
  const bool is_left = state != nullptr && loop.finished > 0 && state->finished() != loop.finished;
  if (run.processes.any(is_left)) save_blocks(run, model, state, loop);
}

// What was written, as users will read it.
OpenModel open_written(Run& run) {
  return open_model(run.output->directory.path("."), {}, run.options.device);
}

// What the output computes, against the float model: on --eval-text, or on what was held out.
void measure_quality(Run& run, const OpenModel& open, const BlockLoop& loop,
                     const std::vector<int64_t>& eval_ids) {
  const StageTimer timer(run.times, "quality");
  const Model& model = *open.model;
  if (!run.options.eval_text.empty()) {
    try {
      run.report.quality =
          quality_on_text(model, open_written(run), eval_ids, window_length(run.recipe, model),
                          file_label(run.options.eval_text), run.progress);
    } catch (const Error& error) {
      if (error.may_pass()) throw;
      throw passing_error("", error.what());  // another text, or none, may do
    }
  } else if (!loop.windows.empty()) {
    run.report.quality =
        quality_on_windows(model, loop.streams.floats.held_out(), loop.windows.held_out(), open_written(run));
  } else {
    spdlog::info("output quality is not measured: there is no text; --eval-text or --calib asks for it");
    return;
  }
  if (!run.report.routing.empty()) {
    const Tensor ids = run.options.eval_text.empty()
                           ? loop.windows.held_out()
                           : evaluation_windows(eval_ids, window_length(run.recipe, model), "--eval-text");
    measure_routing(model, *open_written(run).model, ids, run.report);
  }
  // Text that the model wrote itself is what it expects.
  if (run.options.eval_text.empty() && run.options.calibration.empty()) return;
  const Quality& quality = *run.report.quality;
  const std::string warning = chance_warning(quality.perplexity_float, model.vocab_size(), quality.text);
  if (!warning.empty()) run.report.warnings.push_back(warning);
}

// The artifact's files, and what is known once they are on disk.
void finish_output(Run& run, const OpenModel& open, const BlockLoop& loop, const RunCompanions& companions,
                   const std::vector<int64_t>& eval_ids) {
  std::vector<std::string> weight_files;
  {
    const StageTimer timer(run.times, "write");
    write_outer_weights(*open.model, run.recipe, *loop.writer, run.report);
    weight_files = loop.writer->finish(open.model->config(), run.report.recipe);
    copy_companions(companions.files, run.output->directory);
    for (const auto& [name, text] : companions.texts) write_file(run.output->directory.path(name), text);
  }
  measure_quality(run, open, loop, eval_ids);
  run.report.loads_in =
      programs_that_load(open_model(run.output->directory.path("."), {}, at::kMeta), run.recipe.method);
  measure_sizes(weight_files, run.output->directory, open.model->num_parameters(), run.report);
}

void commit_output(Run& run) {
  if (run.options.strict) refuse_fallbacks(run.report.fallbacks, run.report.warnings);
  warn_of_better_bases(run.report);  // advice: all was done as asked
  run.report.time_ms = run.times.totals_ms();
  run.report.peak_rss_bytes = peak_rss_bytes();
  OutputDirectory& output = run.output->directory;
  write_file(output.path("report.json"), to_json(run.report).dump(1) + "\n");
  write_checksums(output);
  output.commit();
  run.output->work.remove();
}

// Of the exception that is being handled: whether the same run may get past it another time.
bool may_pass() {
  try {
    throw;
  } catch (const Error& error) {
    return error.may_pass();
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const c10::OutOfMemoryError&) {
    return true;
  } catch (const std::filesystem::filesystem_error&) {
    return true;
  } catch (...) {
    return false;  // a bug of this program
  }
}

// What the first process reads before the work begins, so that a wrong input is known at once.
struct Inputs {
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int64_t> eval_ids;
  RunCompanions companions;
};

Inputs read_inputs(Run& run, const OpenModel& open) {
  Inputs inputs;
  if (!run.processes.is_first()) return inputs;
  inputs.tokenizer = tokenizer_of_run(run.options, open, run.report.warnings);
  inputs.eval_ids = read_eval_text(run.options, inputs.tokenizer.get(), *open.model, run.report.warnings);
  return inputs;
}

// Of the exception that is being handled: what stays for --resume.
void keep_or_clear(Run& run, const OpenModel& open, const RunState& state) {
  if (!state.finished()) return;
  if (!may_pass()) {
    run.output->work.clear();  // --resume would come to the same error
    return;
  }
  spdlog::warn("{} of {} blocks are finished and kept in {}; to go on: {}", *state.finished(),
               open.model->num_blocks(), run.output->work.path(), run.options.resume_command);
}

}  // namespace

Report run(const RunOptions& options, const Recipe& recipe, Progress& progress) {
  Run run{options, recipe, progress, options.processes ? *options.processes : one_process()};
  if (run.processes.is_first()) run.output.emplace(options);
  run.report.program = options.program;
  run.report.recipe = recipe.to_json();
  const OpenModel open = open_float_model(options, recipe);
  run.report.warnings = open.checkpoint->warnings();
  say_once(open.model->warnings(), run.report.warnings);
  const BlockPass pass(recipe, options.seed);
  pass.check_patterns(open.source->names());
  Inputs inputs = read_inputs(run, open);
  // Shapes tell what the steps need: no weight is read before the inputs are known to be good.
  const ListedSource shapes(*open.source);
  const bool needs_data = pass.needs_data(*open.architecture->make(shapes));
  expect_own_text_is_possible(options, recipe, *open.model, needs_data);
  if (run.output) inputs.companions = companions_of_run(options, open, run.report.warnings);
  {
    const StageTimer timer(run.times, "hash source");
    run.report.source = describe_source(options, open);
  }
  expect_same_run(run.report, options.device.str(), options.seed, run.processes);
  std::optional<RunState> state;
  if (run.output) {
    state.emplace(run.output->work, run_identity(options, run.report, *open.checkpoint),
                  needs_data || !options.calibration.empty(), options.hidden_states_in_file, run.processes);
  }
  RunState* const kept = state ? &*state : nullptr;
  BlockLoop loop(open.model->hidden_size());
  try {
    begin_loop(run, open, needs_data, inputs.tokenizer.get(), kept, loop);
    if (options.strict)
      refuse_fallbacks(run.report.fallbacks,
                       run.report.warnings);  // what is known already need not wait for the end
    quantize_blocks(run, *open.model, pass, kept, loop);
    throw_if_interrupted();
    if (!run.output) return {};
    finish_output(run, open, loop, inputs.companions, inputs.eval_ids);
    commit_output(run);
  } catch (...) {
    if (state) keep_or_clear(run, open, *state);
    throw;
  }
  progress.finished();
  return std::move(run.report);
}

std::string default_output(const std::string& model_path, const Recipe& recipe) {
  std::error_code failed;
  std::string name = last_name(model_path);
  if (!std::filesystem::is_directory(model_path, failed)) name = std::filesystem::path(name).stem().string();
  std::string kind = recipe.bits.empty() ? recipe.base : recipe.bits;
  std::replace(kind.begin(), kind.end(), ':', '-');  // "gptq:int4-g128"
  return output_here(name + "-" + recipe.method + (kind.empty() ? "" : "-" + kind), model_path);
}

}  // namespace ptq
