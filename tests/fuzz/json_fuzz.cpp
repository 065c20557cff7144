// Arbitrary bytes as a JSON document, strict and in Python's dialect: an Error or a document that survives
// being written and read again.
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
  try {
    std::vector<std::string> repeated;
    const ptq::Json json =
        ptq::parse_python_json({reinterpret_cast<const char*>(data), size}, "input", {}, repeated);
    // As text: a NaN is no number's equal.
    const std::string text = ptq::python_json_text(json, 1);
    if (ptq::python_json_text(ptq::parse_python_json(text, "output", {}, repeated), 1) != text) std::abort();
  } catch (const ptq::Error&) {
  }
  return 0;
}
