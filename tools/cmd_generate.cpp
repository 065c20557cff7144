// quantize generate: continue a prompt, or each of many.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "commands.h"
#include "prompts.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/engine/continuation.h"
#include "ptq/engine/end_tokens.h"
#include "ptq/export/formats.h"
#include "ptq/pipeline/run.h"

namespace ptq {
namespace {

// A model computes at positions that it was not trained for, but not well.
void warn_of_long_text(const Model& model, int64_t prompt_tokens, int64_t written_tokens) {
  const int64_t limit = model.context_limit(), total = prompt_tokens + written_tokens;
  if (limit <= 0 || total <= limit) return;
  spdlog::warn(
      "the prompt has {} tokens and {} are to be written, {} in all; the model was trained for {} "
      "(max_position_embeddings): what comes after that is not to be relied on",
      prompt_tokens, written_tokens, total, limit);
}

std::vector<int64_t> tokens_of(const std::string& prompt, const std::string& where,
                               const Tokenizer& tokenizer, const Model& model) {
  std::vector<int64_t> ids = tokenizer.encode(prompt, /*add_special=*/true);
  if (ids.empty()) ids = {model.start_token()};
  for (const int64_t id : ids) {
    if (id >= model.vocab_size()) {
      throw Error(where,
                  "holds the token id " + std::to_string(id) + "; the model's vocabulary has " +
                      std::to_string(model.vocab_size()) + " entries",
                  "--tokenizer with the file that belongs to this model");
    }
  }
  return ids;
}

std::string json_text(const Continuation& result, int indent) {
  const Json json = {{"text", result.prompt + result.text},
                     {"completion", result.text},
                     {"ids", result.ids},
                     {"prompt_tokens", result.prompt_tokens},
                     {"ending", ending_name(result.ending)}};
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The first token of a text comes with its prompt, so that it is the others that decoding took time for.
struct Speed {
  int64_t prompt_tokens = 0, decoded_tokens = 0;
  double prompt_seconds = 0, decode_seconds = 0;

  void add(const Continuation& result) {
    if (result.written() == 0) return;
    prompt_tokens += result.prompt_tokens;
    decoded_tokens += result.written() - 1;
    prompt_seconds += result.prompt_seconds;
    decode_seconds += result.decode_seconds;
  }
  void log() const {
    const auto rate = [](int64_t tokens, double seconds) {
      return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
    };
    spdlog::info("prompt: {} tokens, {:.1f} tokens/s; decoding: {} tokens, {:.1f} tokens/s", prompt_tokens,
                 rate(prompt_tokens, prompt_seconds), decoded_tokens, rate(decoded_tokens, decode_seconds));
  }
};

std::vector<std::string> prompts_of(const GenerateOptions& options) {
  if (options.prompt.has_value() == !options.prompts.empty())
    throw usage_error("generate", "give one of --prompt TEXT and --prompts FILE");
  if (options.prompt) return {*options.prompt};
  std::vector<std::string> remarks;
  std::vector<std::string> prompts = read_prompts(options.prompts, remarks);
  for (const std::string& remark : remarks) spdlog::warn("{}", remark);
  return prompts;
}

}  // namespace

void generate_command(const GenerateOptions& options, const CommonOptions& common) {
  const std::vector<std::string> prompts = prompts_of(options);
  const Compute compute = compute_of(options.compute, options.model, common.checkpoint);
  const OpenModel open = open_any_model(options.model, common.checkpoint, common.torch_device());
  log_warnings(open);
  std::vector<std::string> warnings;
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(common.tokenizer, open, warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (tokenizer == nullptr) {
    throw Error(options.model, "there is no tokenizer.json beside the model, and a prompt is text",
                "--tokenizer FILE");
  }
  ContinuationOptions how{options.sampling, options.max_tokens, {}, options.stop};
  if (!options.ignore_eos) how.end_tokens = end_tokens(open.model->config(), open.checkpoint->directory());
  std::vector<std::vector<int64_t>> ids;  // of each prompt
  size_t longest = 0;
  for (const std::string& prompt : prompts) {
    throw_if_interrupted();
    const std::string where =
        options.prompt ? "--prompt" : options.prompts + ": prompt " + std::to_string(ids.size() + 1);
    ids.push_back(tokens_of(prompt, where, *tokenizer, *open.model));
    longest = std::max(longest, ids.back().size());
  }
  warn_of_long_text(*open.model, static_cast<int64_t>(longest), options.max_tokens);

  const bool streams = options.prompt && !common.json;
  // One prompt at a time: products of several rows may round otherwise, and a text would depend on those
  // beside it.
  Decoder decoder(*open.model, 1, {.floats = CacheFloats::kFloat16, .compute = compute});
  Speed speed;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) decoder.restart();
    const Continuation result = continue_text(decoder, *tokenizer, ids[i], static_cast<int64_t>(i), how,
                                              [&](const std::string& text) {
                                                if (streams) print(text);
                                              });
    print(streams ? "\n" : json_text(result, options.prompt ? 1 : -1));
    speed.add(result);
  }
  speed.log();
}

}  // namespace ptq
