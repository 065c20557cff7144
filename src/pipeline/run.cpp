// The loop of a run: start reading here.
//
// A checkpoint is opened, its headers checked and its rows of calibration tokens made. Then block after block
// is read, taken through the recipe's steps (block_pass.cpp), measured and written, while the hidden states
// of the float model move along. At the end the artifact is read back and its perplexity compared with the
// float model's.
#include "ptq/pipeline/run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "pipeline/block_pass.h"
#include "pipeline/calibrate.h"
#include "pipeline/measure.h"
#include "pipeline/quality.h"
#include "ptq/artifact/writer.h"
#include "ptq/base/error.h"
#include "ptq/base/hash.h"
#include "ptq/base/memory.h"
#include "ptq/calibration/stream.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/evaluate.h"

namespace ptq {
namespace {

void check_skip_patterns(const Recipe& recipe, const WeightSource& source) {
  const std::vector<std::string> names = source.names();
  for (const std::string& pattern : recipe.skip) {
    const bool used = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return matches_pattern(pattern, name) || matches_pattern(pattern + ".weight", name);
    });
    if (!used) {
      throw usage_error("--skip", "no tensor matches \"" + pattern + "\"",
                        "a layer's name or a shell pattern such as \"*.0.mixer.out_proj\"; `quantize "
                        "inspect` lists the names");
    }
  }
}

OpenModel open_float_model(const RunOptions& options, const Recipe& recipe) {
  OpenModel open;
  open.checkpoint = open_checkpoint(options.model_path, options.checkpoint);
  if (is_artifact(*open.checkpoint)) {
    throw Error(options.model_path, "is already quantized by this program",
                "the float checkpoint it was made from");
  }
  open.source = make_source(*open.checkpoint, options.device);
  const std::string purpose = recipe.families.empty() ? "" : recipe.method + " is for " + recipe.purpose;
  open.architecture = &find_architecture(*open.source, options.model_path, purpose);
  const std::string family = open.architecture->family;
  if (!recipe.families.empty() &&
      std::find(recipe.families.begin(), recipe.families.end(), family) == recipe.families.end()) {
    throw Error(options.model_path, std::string("is a ") + open.architecture->description + "; " + purpose,
                "`quantize list` shows the methods for each family");
  }
  check_skip_patterns(recipe, *open.source);
  open.model = open.architecture->make(*open.source);
  for (const std::string& note : open.checkpoint->notes()) spdlog::info("{}", note);
  for (const std::string& note : open.model->notes()) spdlog::info("{}", note);
  return open;
}

// Embedding, final norm and head. The embedding is rounded a row at a time: a row is one token's vector, and
// a single scale for all would be set by the rarest.
void write_outer_weights(Model& model, const Recipe& recipe, ArtifactWriter& writer, Report& report) {
  WeightScheme rows;
  rows.granularity = Granularity::kChannel;
  for (Weight* weight : model.outer_weights()) {
    Weight written = *weight;
    if (recipe.embedding == "int8" && weight->role == Role::kEmbedding) {
      written.set_quantized(round_to_nearest(weight->value, rows));
      report.layers.push_back(weight_row(*weight, written));
    }
    writer.add(written);
  }
}

Json describe_source(const RunOptions& options, const OpenModel& open) {
  Json files = Json::object();
  int64_t bytes = 0;
  for (const std::string& path : open.checkpoint->files()) {
    const std::string name = std::filesystem::path(path).filename().string();
    files[name] = sha256_file(path);
    if (name != "config.json" && !name.ends_with(".index.json"))
      bytes += static_cast<int64_t>(std::filesystem::file_size(path));
  }
  const std::string stored =
      open.checkpoint->tensors().empty() ? "" : dtype_name(open.checkpoint->tensors().front().dtype);
  return {{"name", std::filesystem::path(options.model_path).lexically_normal().filename().string()},
          {"architecture", open.architecture->name},
          {"parameters", open.model->num_parameters()},
          {"dtype", stored},
          {"bytes", bytes},
          {"files", files}};
}

bool is_text(const std::string& path) {
  return !path.ends_with(".npy") && !path.ends_with(".bin") && !path.ends_with(".safetensors");
}

// A tokenizer that the program cannot read stops a run only if there is something to read with it.
std::unique_ptr<Tokenizer> tokenizer_of_run(const RunOptions& options, const OpenModel& open,
                                            std::vector<std::string>& warnings) {
  std::vector<std::string> inputs = options.calibration;
  if (!options.eval_text.empty()) inputs.push_back(options.eval_text);
  const bool needed = !options.tokenizer.empty() || std::any_of(inputs.begin(), inputs.end(), is_text);
  std::string unreadable;
  std::unique_ptr<Tokenizer> tokenizer =
      load_tokenizer(options.tokenizer, *open.checkpoint, *open.model, needed ? nullptr : &unreadable);
  if (!unreadable.empty()) warnings.push_back("the tokenizer was copied unread: " + unreadable);
  return tokenizer;
}

// The ids of --eval-text, none without it.
std::vector<int64_t> read_eval_text(const RunOptions& options, const Tokenizer* tokenizer,
                                    const Model& model) {
  if (options.eval_text.empty()) return {};
  std::vector<int64_t> ids =
      read_tokens({options.eval_text, options.token_dtype}, tokenizer, model.vocab_size());
  evaluation_windows(ids, 2, options.eval_text);  // too few are an error here already
  return ids;
}

// Sizes, quality and time: what is known once the weights are on disk.
void measure_output(const RunOptions& options, const Recipe& recipe, const OpenModel& open,
                    const Stream& stream, const CalibrationRows& rows, const std::vector<int64_t>& eval_ids,
                    OutputDirectory& output, Progress& progress, Report& report) {
  const OpenModel artifact = open_model(output.path("."), {}, options.device);
  if (options.eval_text.empty()) {
    const Tensor ids = rows.ids.slice(0, rows.ids.size(0) - rows.kept);
    report.quality = quality_on_rows(*open.model, stream.kept_rows(), ids, artifact);
  } else {
    report.quality = quality_on_text(*open.model, artifact, eval_ids, window_length(recipe, *open.model),
                                     std::filesystem::path(options.eval_text).filename().string(), progress);
  }
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
  report.bits_per_weight = 8 * static_cast<double>(report.output_bytes) / static_cast<double>(parameters);
}

void refuse_fallbacks(const Report& report) {
  if (report.fallbacks.empty() && report.warnings.empty()) return;
  std::string list;
  for (const FallbackRow& row : report.fallbacks)
    list += "\n  " + row.where + ": " + row.what + " (" + row.why + ")";
  for (const std::string& warning : report.warnings) list += "\n  " + warning;
  throw Error("--strict", std::to_string(report.fallbacks.size() + report.warnings.size()) +
                              " things were not done as asked:" + list);
}

}  // namespace

Report run(const RunOptions& options, const Recipe& recipe, Progress& progress) {
  Report report;
  StageTimes times;
  report.program = options.program;
  report.recipe = recipe.to_json();
  OutputDirectory output(options.output, options.force);
  std::vector<std::string> weight_files;
  {
    const OpenModel open = open_float_model(options, recipe);
    const BlockPass pass(recipe, options.seed);
    // All inputs are read before the work begins, so that a wrong one is known at once.
    const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of_run(options, open, report.warnings);
    const std::vector<int64_t> eval_ids = read_eval_text(options, tokenizer.get(), *open.model);
    {
      const StageTimer timer(times, "hash source");
      report.source = describe_source(options, open);
    }
    CalibrationRows rows;
    {
      const StageTimer timer(times, "calibration tokens");
      const bool needs_data = pass.needs_data(*open.model->load_block(0));
      rows = calibration_rows(options, recipe, *open.model, tokenizer.get(), needs_data, progress,
                              report.warnings);
      report.calibration = rows.json;
      if (options.strict) refuse_fallbacks(report);  // what is known already need not wait for the end
    }
    ArtifactWriter writer(output, options.max_shard_bytes);
    Stream stream{embed_rows(*open.model, rows.ids), rows.kept};
    progress.start("quantizing", open.model->num_blocks());
    for (int64_t i = 0; i < open.model->num_blocks(); ++i) {
      const std::unique_ptr<Block> block = open.model->load_block(i);
      pass.apply(*block, stream, times, report);
      const StageTimer timer(times, "write");
      writer.add(*block);
      // Tensors of many sizes come and go in a block: without this the heap grows from block to block.
      return_free_memory();
      progress.advance(1, block->prefix());
    }
    {
      const StageTimer timer(times, "write");
      write_outer_weights(*open.model, recipe, writer, report);
      weight_files = writer.finish(open.model->config(), report.recipe);
      copy_tokenizer_files(open.checkpoint->directory(), options.tokenizer, output);
    }
    const StageTimer timer(times, "quality");
    measure_output(options, recipe, open, stream, rows, eval_ids, output, progress, report);
    measure_sizes(weight_files, output, open.model->num_parameters(), report);
  }
  if (options.strict) refuse_fallbacks(report);
  report.time_ms = times.totals_ms();
  report.peak_rss_bytes = peak_rss_bytes();
  write_file(output.path("report.json"), to_json(report).dump(1) + "\n");
  write_checksums(output);
  output.commit();
  progress.finished();
  return report;
}

std::string default_output(const std::string& model_path, const Recipe& recipe) {
  const std::filesystem::path path = std::filesystem::absolute(model_path).lexically_normal();
  const bool is_directory = std::filesystem::is_directory(path);
  std::filesystem::path name =
      is_directory && path.filename().empty() ? path.parent_path().filename() : path.filename();
  if (!is_directory) name = name.stem();
  return name.string() + "-" + recipe.method + (recipe.bits.empty() ? "" : "-" + recipe.bits);
}

}  // namespace ptq
