#include "pipeline/opening.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "pipeline/calibrate.h"
#include "pipeline/dequantized_source.h"
#include "ptq/artifact/companions.h"
#include "ptq/base/error.h"
#include "ptq/base/pattern.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/evaluate.h"
#include "ptq/export/formats.h"

namespace ptq {
namespace {

constexpr const char* kTokenizerFile = "tokenizer.json";

}  // namespace

void expect_match(const std::string& where, const std::string& pattern,
                  const std::vector<std::string>& names) {
  const bool used = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return matches_pattern(pattern, name) || matches_pattern(pattern + ".weight", name);
  });
  if (used) return;
  throw usage_error(where, "no tensor matches \"" + pattern + "\"",
                    "a layer's name or a shell pattern such as \"*.0.mixer.out_proj\"; `quantize "
                    "inspect` lists the names");
}

namespace {

// What another program quantized is a float checkpoint of the values that its codes stand for.
OpenModel open_source(const RunOptions& options) {
  if (const FormatEntry* format = find_foreign_format(options.model_path)) {
    OpenModel open = format->open(options.model_path, options.checkpoint, options.device);
    if (!open.quantized) return open;
    spdlog::info(
        "{}: is {}; its weights are taken for the values that their codes stand for, and it rounds no "
        "activations",
        options.model_path, format->name);
    open.source = std::make_unique<DequantizedSource>(std::move(open.source));
    open.quantized = false;
    return open;
  }
  OpenModel open;
  open.checkpoint = open_checkpoint(options.model_path, options.checkpoint);
  if (is_artifact(*open.checkpoint)) {
    throw Error(options.model_path, "is already quantized by this program",
                "the float checkpoint it was made from");
  }
  // Before the model is made: they may say why that cannot be.
  for (const std::string& note : open.checkpoint->notes()) spdlog::info("{}", note);
  open.source = make_source(*open.checkpoint, options.device);
  return open;
}

}  // namespace

OpenModel open_float_model(const RunOptions& options, const Recipe& recipe) {
  OpenModel open = open_source(options);
  const std::string purpose = recipe.families.empty() ? "" : recipe.method + " is for " + recipe.purpose;
  open.architecture = &find_architecture(*open.source, options.model_path, purpose);
  if (!open.architecture->is_among(recipe.families)) {
    throw Error(options.model_path, std::string("is a ") + open.architecture->description + "; " + purpose,
                "`quantize list` shows the methods for each family");
  }
  expect_all_read(*open.architecture, *open.source, options.model_path);
  open.model = open.architecture->make(*open.source);
  std::vector<std::string> names = open.source->names();
  if (!open.model->tied_head().empty()) names.push_back(open.model->tied_head());
  for (const std::string& pattern : recipe.skip) expect_match("--skip", pattern, names);
  for (const std::string& note : open.model->notes()) spdlog::info("{}", note);
  return open;
}

Json source_json(const RunOptions& options, const OpenModel& open) {
  int64_t bytes = 0;
  for (const std::string& path : open.checkpoint->files()) {
    const std::string name = std::filesystem::path(path).filename().string();
    if (name != "config.json" && !name.ends_with(".index.json"))
      bytes += static_cast<int64_t>(std::filesystem::file_size(path));
  }
  const std::string stored =
      open.checkpoint->tensors().empty() ? "" : dtype_name(open.checkpoint->tensors().front().dtype);
  Json source = {{"name", file_label(options.model_path)},
                 {"architecture", open.architecture->name},
                 {"parameters", open.model->num_parameters()},
                 {"dtype", stored},
                 {"bytes", bytes}};
  if (const FormatEntry* format = find_foreign_format(options.model_path)) source["format"] = format->name;
  if (!open.checkpoint->ignored().empty()) source["ignored_tensors"] = open.checkpoint->ignored();
  return source;
}

std::unique_ptr<Tokenizer> tokenizer_of_run(const RunOptions& options, const OpenModel& open,
                                            std::vector<std::string>& warnings) {
  std::vector<std::string> inputs = options.calibration;
  if (!options.eval_text.empty()) inputs.push_back(options.eval_text);
  const bool needed = !options.tokenizer.empty() || std::any_of(inputs.begin(), inputs.end(), is_text_file);
  std::string unreadable;
  std::unique_ptr<Tokenizer> tokenizer =
      load_tokenizer(options.tokenizer, open, warnings, needed ? nullptr : &unreadable);
  // One that is made from the weights' file is not copied, see companions_of_run().
  if (!unreadable.empty() && !open.tokenizer)
    warnings.push_back("the tokenizer was copied unread: " + unreadable);
  return tokenizer;
}

RunCompanions companions_of_run(const RunOptions& options, const OpenModel& open,
                                std::vector<std::string>& warnings) {
  RunCompanions companions;
  companions.files = companion_files(open.checkpoint->directory(), options.tokenizer, warnings);
  if (!open.tokenizer || !options.tokenizer.empty()) return companions;
  companions.files.erase(kTokenizerFile);  // of another model
  try {
    const std::string text = open.tokenizer();
    if (!text.empty()) companions.texts[kTokenizerFile] = text;
  } catch (const Error& error) {
    warnings.push_back(std::string("the output has no tokenizer: ") + error.what());
  }
  return companions;
}

std::vector<int64_t> read_eval_text(const RunOptions& options, const Tokenizer* tokenizer, const Model& model,
                                    std::vector<std::string>& warnings) {
  if (options.eval_text.empty()) return {};
  std::vector<int64_t> ids = read_tokens(token_source(options, options.eval_text), tokenizer,
                                         model.vocab_size(), kAllTokens, warnings);
  evaluation_windows(ids, 2, options.eval_text);  // too few are an error here already
  return ids;
}

bool is_skipped(const Recipe& recipe, const std::string& name) {
  return std::any_of(recipe.skip.begin(), recipe.skip.end(), [&](const std::string& pattern) {
    return matches_pattern(pattern, name) || matches_pattern(pattern, name + ".weight") ||
           matches_pattern(pattern + ".weight", name);
  });
}

Weight outer_weight_as_written(const Weight& weight, const Model& model, const Recipe& recipe,
                               std::vector<Remark>& decisions) {
  Weight written = weight;
  const bool is_embedding = weight.role == Role::kEmbedding;
  if (is_skipped(recipe, weight.name)) {
    decisions.push_back({weight.name, "kept in float", "skipped by the recipe"});
    return written;
  }
  if (is_embedding && !model.tied_head().empty() && is_skipped(recipe, model.tied_head())) {
    decisions.push_back(
        {weight.name, "kept in float", model.tied_head() + ", the same tensor, is skipped by the recipe"});
    return written;
  }
  if (weight.role == Role::kLinear)
    decisions.push_back({weight.name, "kept in float", "it lies outside of the blocks"});
  if (recipe.embedding != "int8" || !is_embedding) return written;
  WeightScheme rows;
  rows.granularity = Granularity::kChannel;
  written.set(round_to_nearest(weight.values(), rows));
  return written;
}

void say_once(const std::vector<std::string>& warnings, std::vector<std::string>& said) {
  for (const std::string& warning : warnings) {
    if (std::find(said.begin(), said.end(), warning) == said.end()) said.push_back(warning);
  }
}

void append(std::vector<Remark>& remarks, const std::vector<Remark>& more) {
  remarks.insert(remarks.end(), more.begin(), more.end());
}

void refuse_fallbacks(const std::vector<Remark>& fallbacks, const std::vector<std::string>& warnings) {
  const size_t count = fallbacks.size() + warnings.size();
  if (count == 0) return;
  std::string list;
  for (const Remark& row : fallbacks) list += "\n  " + row.where + ": " + row.what + " (" + row.why + ")";
  for (const std::string& warning : warnings) list += "\n  " + warning;
  throw passing_error("--strict", std::to_string(count) + (count == 1 ? " thing was" : " things were") +
                                      " not done as asked:" + list);
}

}  // namespace ptq
