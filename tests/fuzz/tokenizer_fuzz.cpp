// Arbitrary bytes as a tokenizer.json and a text: an Error, or ids that are in range and decode to some text.
//
// The input is JSON up to the first NUL byte, text after it.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view json = input.substr(0, input.find('\0'));
  const std::string_view text = json.size() < size ? input.substr(json.size() + 1) : "Hello \xff  world 12";
  try {
    const auto tokenizer = ptq::Tokenizer::from_json(json, "input");
    const auto ids = tokenizer->encode(text, true);
    for (const int64_t id : ids) {
      if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
    }
    // A second time the words come from the cache.
    if (tokenizer->encode(text, true) != ids) std::abort();
    tokenizer->decode(ids);
    tokenizer->decode({-1, 0, 1, tokenizer->vocab_size(), INT64_MAX}, true);
  } catch (const ptq::Error&) {
  }
  return 0;
}
