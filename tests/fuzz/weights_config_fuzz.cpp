// Arbitrary bytes as a quantization_config of GPTQ, AWQ or bitsandbytes, and as the text that the latter puts
// beside a weight: an Error, or a scheme that a reader can have.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "export/bitsandbytes_config.h"
#include "export/gptq_config.h"
#include "ptq/base/error.h"

namespace {

void read_gptq(const ptq::Json& json) {
  const ptq::GptqConfig config = ptq::read_gptq_config(json, "input");
  const int bits = config.scheme.bits;
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) std::abort();
  if ((config.scheme.granularity == ptq::Granularity::kGroup) != (config.scheme.group > 0)) std::abort();
  // What is written of it is read as the same.
  const ptq::GptqConfig again = ptq::read_gptq_config(ptq::gptq_config_json(config), "again");
  if (again.layout != config.layout || !(again.scheme == config.scheme)) std::abort();
}

template <typename Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const ptq::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  attempt([&] {
    const ptq::Json json = ptq::parse_json(text, "input");
    attempt([&] { read_gptq(json); });
    attempt([&] { ptq::expect_nf4_config(json, "input"); });
  });
  attempt([&] {
    const ptq::Nf4State state = ptq::read_nf4_state(text, "input");
    if (state.shape.size() != 2 || state.shape[0] < 1 || state.shape[1] < 64 || state.shape[1] % 64 != 0)
      std::abort();
  });
  return 0;
}
