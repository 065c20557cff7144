// Arbitrary bytes as a JSON document: an Error or a document that survives being written and read again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const ptq::Json json = ptq::parse_json({reinterpret_cast<const char*>(data), size}, "input");
    if (ptq::parse_json(json.dump(), "output") != json) std::abort();
  } catch (const ptq::Error&) {
  }
  return 0;
}
