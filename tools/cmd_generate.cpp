// quantize generate: continue a prompt.
#include <spdlog/spdlog.h>

#include "commands.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/engine/decoder.h"
#include "ptq/export/formats.h"
#include "ptq/pipeline/run.h"
#include "ptq/tokenizer/tokenizer.h"

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

}  // namespace

void generate_command(const GenerateOptions& options, const CommonOptions& common) {
  const OpenModel open = open_any_model(options.model, common.checkpoint, common.torch_device());
  log_warnings(open);
  std::vector<std::string> warnings;
  const std::unique_ptr<Tokenizer> tokenizer =
      load_tokenizer(common.tokenizer, *open.checkpoint, *open.model, warnings);
  for (const std::string& warning : warnings) spdlog::warn("{}", warning);
  if (tokenizer == nullptr) {
    throw Error(options.model, "there is no tokenizer.json beside the model, and a prompt is text",
                "--tokenizer FILE");
  }
  std::vector<int64_t> ids = tokenizer->encode(options.prompt, /*add_special=*/true);
  if (ids.empty()) ids = {open.model->start_token()};
  for (const int64_t id : ids) {
    if (id >= open.model->vocab_size()) {
      throw Error("--prompt",
                  "holds the token id " + std::to_string(id) + "; the model's vocabulary has " +
                      std::to_string(open.model->vocab_size()) + " entries",
                  "--tokenizer with the file that belongs to this model");
    }
  }
  const size_t prompt_tokens = ids.size();
  warn_of_long_text(*open.model, static_cast<int64_t>(prompt_tokens), options.max_tokens);
  Decoder decoder(*open.model, 1);
  Tensor next = at::tensor(ids, at::kLong).unsqueeze(0);
  std::string printed = tokenizer->decode(ids);
  if (!common.json) print(printed);
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    throw_if_interrupted();
    next = sample(decoder.advance(next), options.temperature, options.seed, i);
    ids.push_back(next.item<int64_t>());
    // Decoded as a whole: a character may take several tokens. What is printed is only ever extended.
    const std::string text = tokenizer->decode(ids);
    const bool complete = text.size() < 3 || text.compare(text.size() - 3, 3, "\xEF\xBF\xBD") != 0;
    if (!common.json && complete && text.starts_with(printed)) {
      print(text.substr(printed.size()));
      printed = text;
    }
  }
  if (!common.json) {
    print("\n");
    return;
  }
  const Json json = {{"text", tokenizer->decode(ids)}, {"ids", ids}, {"prompt_tokens", prompt_tokens}};
  print(json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace ptq
