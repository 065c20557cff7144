// quantize generate: continue a prompt.
#include "commands.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/model/decoder.h"
#include "ptq/pipeline/run.h"
#include "ptq/tokenizer/tokenizer.h"

namespace ptq {

void generate_command(const GenerateOptions& options, const CommonOptions& common) {
  const OpenModel open = open_model(options.model, common.checkpoint, common.torch_device());
  log_warnings(open);
  const std::unique_ptr<Tokenizer> tokenizer =
      load_tokenizer(common.tokenizer, *open.checkpoint, *open.model);
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
