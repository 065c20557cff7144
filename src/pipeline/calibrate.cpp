#include "pipeline/calibrate.h"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/calibration/tokens.h"
#include "ptq/engine/decoder.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

// The last eighth of the windows is held out, at least one. A single one has to serve for both.
WindowSplit split_of(int64_t windows, bool needs_data) {
  if (!needs_data || windows == 1) return WindowSplit::measured_on_calibrated(windows);
  return WindowSplit::of(windows, std::max<int64_t>(1, windows / 8));
}

// Windows of several files: an equal share each, in turns, so that those held out are of all files too, if
// there are as many.
Tensor windows_of_files(const RunOptions& options, const Recipe& recipe, int64_t length,
                        const Tokenizer* tokenizer, int64_t vocab_size, std::vector<std::string>& remarks) {
  std::vector<Tensor> parts;
  const auto files = static_cast<int64_t>(options.calibration.size());
  if (recipe.samples < files) {
    throw usage_error("--samples",
                      std::to_string(recipe.samples) + " windows cannot be shared by " +
                          std::to_string(files) + " files of --calib",
                      "at least a window for each file");
  }
  for (int64_t i = 0; i < files; ++i) {
    const std::string& path = options.calibration[static_cast<size_t>(i)];
    const int64_t share = recipe.samples / files + (i < recipe.samples % files ? 1 : 0);
    const std::vector<int64_t> ids =
        read_tokens(token_source(options, path), tokenizer, vocab_size, share * length, remarks);
    parts.push_back(first_windows(ids, share, length, path));
  }
  return in_turns(parts);
}

// What the model writes itself; on the meta device it only has its shape.
Tensor own_texts(const RunOptions& options, const Recipe& recipe, const Model& model, int64_t length,
                 Progress& progress) {
  if (model.device().is_meta()) {
    model.start_token();  // throws here as it would there
    return at::empty({recipe.samples, length}, at::TensorOptions().dtype(at::kLong).device(at::kMeta));
  }
  progress.start("writing calibration text", length - 1);
  return write_texts(model, recipe.samples, length, options.seed, [&](int64_t) {
    throw_if_interrupted();
    progress.advance();
  });
}

}  // namespace

TokenSource token_source(const RunOptions& options, const std::string& path) {
  const auto piped = options.piped.find(path);
  return {{path, options.text_field, piped == options.piped.end() ? nullptr : piped->second},
          options.token_dtype};
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& option, const OpenModel& open,
                                          std::vector<std::string>& warnings, std::string* unreadable) {
  const Model& model = *open.model;
  std::string path = option, text;
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    if (option.empty() && open.tokenizer) text = open.tokenizer();
    if (!text.empty()) {
      path = open.checkpoint->path();
      tokenizer = Tokenizer::from_json(text, path);
    } else {
      if (option.empty())
        path = (std::filesystem::path(open.checkpoint->directory()) / "tokenizer.json").string();
      if (option.empty() && !std::filesystem::exists(path)) return nullptr;
      tokenizer = Tokenizer::from_file(path);
    }
  } catch (const Error& error) {
    if (unreadable == nullptr) throw;
    *unreadable = error.what();
    return nullptr;
  }
  const std::string sizes = "the tokenizer has " + std::to_string(tokenizer->own_vocab_size()) +
                            " entries, the model's vocabulary " + std::to_string(model.vocab_size());
  if (tokenizer->own_vocab_size() > model.vocab_size())
    throw Error(path, sizes, "--tokenizer with the file that belongs to this model");
  if (tokenizer->vocab_size() > model.vocab_size()) {
    warnings.push_back(path + ": has added tokens up to the id " +
                       std::to_string(tokenizer->vocab_size() - 1) + "; the model's vocabulary has " +
                       std::to_string(model.vocab_size()) +
                       " entries, so a text with one of those beyond cannot be read");
  }
  return tokenizer;
}

// The logits of a model that knows nothing are all the same, and its perplexity is the size of the
// vocabulary. Text that a model was trained for is a hundred times below; text of another language, or code,
// some ten times.
std::string chance_warning(double perplexity, int64_t vocab_size, const std::string& text) {
  constexpr double kShareOfChance = 0.25;
  if (!(perplexity >= kShareOfChance * static_cast<double>(vocab_size))) return "";
  return "the float model's perplexity on " + text + " is " + format_number(perplexity, 0) +
         ", and guessing gives that of the vocabulary, " + std::to_string(vocab_size) +
         ": either this is no text of its kind, or the tokenizer is another model's, or it was not trained";
}

int64_t window_length(const Recipe& recipe, const Model& model) {
  const int64_t limit = model.context_limit();
  return limit > 0 ? std::min(limit, recipe.seq_len) : recipe.seq_len;
}

void expect_own_text_is_possible(const RunOptions& options, const Recipe& recipe, const Model& model,
                                 bool needs_data) {
  const int64_t bytes = model.num_parameters() * static_cast<int64_t>(sizeof(float));
  if (!needs_data || !options.calibration.empty() || bytes <= kWriterBytes) return;
  const int64_t steps = std::max<int64_t>(1, window_length(recipe, model) - 1);
  throw Error("--calib",
              "is missing, and the model would write its own text of " + std::to_string(recipe.samples) +
                  " x " + std::to_string(steps + 1) + " tokens; " + format_bytes(bytes) +
                  " of float32 weights are more than the " + format_bytes(kWriterBytes) +
                  " that it may keep in memory for that, so it would read the whole model " +
                  std::to_string(steps) + " times, once for every token of a window",
              "--calib FILE with a text or with token ids");
}

CalibrationWindows calibration_windows(const RunOptions& options, const Recipe& recipe, const Model& model,
                                       const Tokenizer* tokenizer, bool needs_data, Progress& progress,
                                       std::vector<std::string>& warnings) {
  expect_own_text_is_possible(options, recipe, model, needs_data);
  if (!needs_data && options.calibration.empty()) return {};
  const int64_t length = window_length(recipe, model);
  if (length < recipe.seq_len) {
    spdlog::info("calibration windows have {} tokens, the model's limit, where the recipe has {}", length,
                 recipe.seq_len);
  }
  CalibrationWindows windows;
  std::string source;
  if (options.calibration.empty()) {
    source = "text written by the float model itself";
    spdlog::info("no --calib: the float model writes its own calibration text, {} x {} tokens",
                 recipe.samples, length);
    windows.ids = own_texts(options, recipe, model, length, progress);
  } else {
    windows.ids = windows_of_files(options, recipe, length, tokenizer, model.vocab_size(), warnings);
    for (const std::string& path : options.calibration) {
      source += (source.empty() ? "" : ", ") + file_label(path);
    }
  }
  if (windows.ids.size(0) < recipe.samples) {
    warnings.push_back(std::to_string(windows.ids.size(0)) + " calibration windows of " +
                       std::to_string(length) + " tokens; " + std::to_string(recipe.samples) +
                       " were asked for");
  }
  if (needs_data && windows.ids.size(0) == 1) {
    warnings.push_back(
        "one calibration window: quality is measured on the text that the model is calibrated on; "
        "--samples 2 holds one out");
  }
  windows.split = split_of(windows.ids.size(0), needs_data);
  windows.json = {{"source", source},
                  {"samples", windows.ids.size(0)},
                  {"seq_len", length},
                  {"kept_aside", windows.split.held_out},
                  {"tokens", windows.ids.numel()},
                  {"seed", options.seed}};
  return windows;
}

}  // namespace ptq
