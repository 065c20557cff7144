// The loop of a run: start reading here.
//
// A checkpoint is opened, its headers checked and its windows of calibration tokens made. Then block after
// block is read, taken through the recipe's steps (block_pass.cpp), measured and written, while the hidden
// states of the float model move along. From time to time all that is kept in run_state.h, for --resume. At
// the end the artifact is read back and its perplexity compared with the float model's.
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
#include "pipeline/run_identity.h"
#include "pipeline/run_state.h"
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
#include "ptq/export/runtimes.h"
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

// Where the bytes of corrections would have bought more in the weights' format.
void warn_of_better_bases(Report& report) {
  int64_t corrected = 0, beaten = 0;
  const LayerRow* example = nullptr;
  for (const LayerRow& row : report.layers) {
    if (!row.correction || row.correction->rank == 0) continue;
    ++corrected;
    if (!row.correction->better_base) continue;
    ++beaten;
    if (example == nullptr) example = &row;
  }
  if (beaten == 0) return;
  const CorrectionRow& row = *example->correction;
  report.warnings.push_back("in " + std::to_string(beaten) + " of " + std::to_string(corrected) +
                            " corrected layers a better base of no more bytes would leave less error, e.g. " +
                            example->name + ": " + row.better_base->format + " " +
                            format_number(row.better_base->energy / row.energy_before.value_or(1), 3) +
                            " of the uncorrected error, rank " + std::to_string(row.rank) + " " +
                            format_number(row.remaining(), 3));
}

// A run, where it writes, and what it has to say so far.
struct Run {
  const RunOptions& options;
  const Recipe& recipe;
  Progress& progress;
  WorkDirectory work{output_path(options.output, options.force)};
  OutputDirectory output{options.output, options.force, work.path("output")};
  Report report{};
  StageTimes times{};
};

// The hidden states before the first block, of windows that are split so; `name` is that of their file.
Stream embedded(Run& run, const Model& model, const Tensor& ids, const WindowSplit& split,
                const std::string& name) {
  if (!run.options.hidden_states_in_file) return Stream(embed_windows(model, ids), split);
  Stream stream(run.work.path(), {ids.size(0), ids.size(1), model.hidden_size()}, split, name);
  embed_windows(model, ids, stream.hidden());
  return stream;
}

Streams embedded(Run& run, const Model& model, const CalibrationWindows& windows) {
  const int64_t calibrated = windows.split.calibrated;
  Streams streams{embedded(run, model, windows.ids, windows.split, "stream"), Stream(model.hidden_size())};
  if (run.recipe.feedback.is_on()) {
    streams.rounded = embedded(run, model, windows.ids.slice(0, 0, calibrated),
                               WindowSplit::measured_on_calibrated(calibrated), "rounded");
  }
  return streams;
}

// Begins with fresh windows, or where a run that was stopped had come to.
void begin_loop(Run& run, const OpenModel& open, bool needs_data, const Tokenizer* tokenizer, RunState& state,
                BlockLoop& loop) {
  const RunOptions& options = run.options;
  if (options.resume && run.work.keeps_state()) {
    const StageTimer timer(run.times, "load state");
    state.load(*open.model, run.output, options.max_shard_bytes, loop, run.report, run.times);
    spdlog::info("going on after block {} of {}", loop.finished, open.model->num_blocks());
    return;
  }
  if (options.resume) spdlog::info("nothing to resume: the run starts at its beginning");
  const StageTimer timer(run.times, "calibration tokens");
  loop.windows = calibration_windows(options, run.recipe, *open.model, tokenizer, needs_data, run.progress,
                                     run.report.warnings);
  run.report.calibration = loop.windows.json;
  if (run.work.keeps_state()) {
    spdlog::warn(
        "{} is dropped, in which a run that was stopped has left its state; --resume goes on from it",
        run.work.path());
    run.work.clear();
  }
  if (!loop.windows.empty()) loop.streams = embedded(run, *open.model, loop.windows);
  loop.writer = state.make_writer(run.output, options.max_shard_bytes);
  // To write a text may take longer than a block.
  if (options.calibration.empty() && !loop.windows.empty() && state.is_due(options.save_every_seconds)) {
    state.save(loop, run.report, run.times);
    spdlog::debug("the calibration text is kept");
  }
}

void save_blocks(Run& run, const Model& model, RunState& state, BlockLoop& loop) {
  const StageTimer timer(run.times, "save state");
  state.save(loop, run.report, run.times);
  spdlog::debug("block {} of {} is kept", loop.finished, model.num_blocks());
}

// The blocks that are left. After a signal the block is finished and kept first.
void quantize_blocks(Run& run, const Model& model, const BlockPass& pass, RunState& state, BlockLoop& loop) {
  run.progress.start("quantizing", model.num_blocks() - loop.finished);
  const InterruptDeferral deferral(
      "\nstopping after this block, so that --resume can go on from there; once more stops at once\n");
  while (loop.finished < model.num_blocks() && !interrupted()) {
    const std::unique_ptr<Block> block = model.load_block(loop.finished);
    pass.apply(*block, loop.streams, run.times, run.report);
    {
      const StageTimer timer(run.times, "write");
      loop.writer->add(*block);
    }
    // Tensors of many sizes come and go in a block: without this the heap grows from block to block.
    return_free_memory();
    ++loop.finished;
    spdlog::debug("block {} of {} is finished", loop.finished, model.num_blocks());
    if (state.is_due(run.options.save_every_seconds)) save_blocks(run, model, state, loop);
    run.progress.advance(1, block->prefix());
  }
  if (loop.finished > 0 && state.finished() != loop.finished) save_blocks(run, model, state, loop);
}

// What was written, as users will read it.
OpenModel open_written(Run& run) {
  return open_model(run.output.path("."), {}, run.options.device);
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
  // Text that the model wrote itself is what it expects.
  if (run.options.eval_text.empty() && run.options.calibration.empty()) return;
  const Quality& quality = *run.report.quality;
  const std::string warning = chance_warning(quality.perplexity_float, model.vocab_size(), quality.text);
  if (!warning.empty()) run.report.warnings.push_back(warning);
}

// From the headers of what was written: which programs load an export of it.
std::vector<LoadsIn> find_loads_in(Run& run) {
  const OpenModel written = open_model(run.output.path("."), {}, at::kMeta);
  std::vector<LoadsIn> all;
  for (const RuntimeEntry& runtime : runtimes()) {
    for (const RuntimeFit& fit : fits(runtime, written, run.recipe.method)) {
      if (fit.loads()) all.push_back({runtime.name, fit.format->name});
    }
  }
  return all;
}

// The artifact's files, and what is known once they are on disk.
void finish_output(Run& run, const OpenModel& open, const BlockLoop& loop, const RunCompanions& companions,
                   const std::vector<int64_t>& eval_ids) {
  std::vector<std::string> weight_files;
  {
    const StageTimer timer(run.times, "write");
    write_outer_weights(*open.model, run.recipe, *loop.writer, run.report);
    weight_files = loop.writer->finish(open.model->config(), run.report.recipe);
    copy_companions(companions.files, run.output);
    for (const auto& [name, text] : companions.texts) write_file(run.output.path(name), text);
  }
  measure_quality(run, open, loop, eval_ids);
  run.report.loads_in = find_loads_in(run);
  measure_sizes(weight_files, run.output, open.model->num_parameters(), run.report);
}

void commit_output(Run& run) {
  if (run.options.strict) refuse_fallbacks(run.report.fallbacks, run.report.warnings);
  warn_of_better_bases(run.report);  // advice: all was done as asked
  run.report.time_ms = run.times.totals_ms();
  run.report.peak_rss_bytes = peak_rss_bytes();
  write_file(run.output.path("report.json"), to_json(run.report).dump(1) + "\n");
  write_checksums(run.output);
  run.output.commit();
  run.work.remove();
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

}  // namespace

Report run(const RunOptions& options, const Recipe& recipe, Progress& progress) {
  Run run{options, recipe, progress};
  run.report.program = options.program;
  run.report.recipe = recipe.to_json();
  const OpenModel open = open_float_model(options, recipe);
  run.report.warnings = open.checkpoint->warnings();
  say_once(open.model->warnings(), run.report.warnings);
  const BlockPass pass(recipe, options.seed);
  pass.check_patterns(open.source->names());
  // All inputs are read before the work begins, so that a wrong one is known at once.
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of_run(options, open, run.report.warnings);
  const std::vector<int64_t> eval_ids =
      read_eval_text(options, tokenizer.get(), *open.model, run.report.warnings);
  // Shapes tell what the steps need: no weight is read before the inputs are known to be good.
  const ListedSource shapes(*open.source);
  const bool needs_data = pass.needs_data(*open.architecture->make(shapes));
  expect_own_text_is_possible(options, recipe, *open.model, needs_data);
  const RunCompanions companions = companions_of_run(options, open, run.report.warnings);
  {
    const StageTimer timer(run.times, "hash source");
    run.report.source = describe_source(options, open);
  }
  RunState state(run.work, run_identity(options, run.report, *open.checkpoint),
                 needs_data || !options.calibration.empty(), options.hidden_states_in_file);
  BlockLoop loop(open.model->hidden_size());
  try {
    begin_loop(run, open, needs_data, tokenizer.get(), state, loop);
    if (options.strict)
      refuse_fallbacks(run.report.fallbacks,
                       run.report.warnings);  // what is known already need not wait for the end
    quantize_blocks(run, *open.model, pass, state, loop);
    throw_if_interrupted();
    finish_output(run, open, loop, companions, eval_ids);
    commit_output(run);
  } catch (...) {
    if (state.finished() && !may_pass()) {
      run.work.clear();  // --resume would come to the same error
    } else if (state.finished()) {
      spdlog::warn("{} of {} blocks are finished and kept in {}; to go on: {}", *state.finished(),
                   open.model->num_blocks(), run.work.path(), options.resume_command);
    }
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
