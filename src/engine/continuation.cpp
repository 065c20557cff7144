#include "ptq/engine/continuation.h"

#include <algorithm>

#include "ptq/base/clock.h"
#include "ptq/base/interrupt.h"
#include "ptq/tokenizer/stop_strings.h"
#include "ptq/tokenizer/text_stream.h"

namespace ptq {

const char* ending_name(Ending ending) {
  switch (ending) {
    case Ending::kEndToken:
      return "end";
    case Ending::kStopString:
      return "stop";
    case Ending::kLength:
      break;
  }
  return "length";
}

Continuation continue_text(Decoder& decoder, const Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                           int64_t row, const ContinuationOptions& options,
                           const std::function<void(const std::string&)>& on_text) {
  TextStream stream(tokenizer);
  StopStrings stops(options.stop_strings);
  Continuation result;
  const auto write = [&](const std::string& text) {
    result.text += text;
    if (!text.empty()) on_text(text);
  };
  result.ids = prompt;
  result.prompt_tokens = static_cast<int64_t>(prompt.size());
  result.prompt = stream.begin(prompt);
  on_text(result.prompt);
  Tensor next = at::tensor(prompt, at::kLong).unsqueeze(0);  // [1, length]
  while (result.written() < options.max_tokens && result.ending == Ending::kLength) {
    throw_if_interrupted();
    const Stopwatch clock;
    const Tensor logits = decoder.advance(next)[0];
    const int64_t id = sample_one(logits, result.ids, options.sampling, row, result.written());
    (result.written() == 0 ? result.prompt_seconds : result.decode_seconds) += clock.elapsed_seconds();
    result.ids.push_back(id);
    next = at::full({1, 1}, id, at::kLong);
    if (std::find(options.end_tokens.begin(), options.end_tokens.end(), id) != options.end_tokens.end()) {
      result.ending = Ending::kEndToken;
    } else {
      write(stops.add(stream.add(id)));
      if (stops.found()) result.ending = Ending::kStopString;
    }
  }
  // A character that stayed incomplete may complete a stop string as U+FFFD, if at all.
  write(stops.add(stream.finish()));
  if (stops.found()) result.ending = Ending::kStopString;
  write(stops.finish());
  return result;
}

}  // namespace ptq
