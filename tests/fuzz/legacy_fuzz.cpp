// Arbitrary bytes as a legacy PyTorch file: an Error, or tensors whose bytes can be read.
#include <cstdint>

#include "checkpoint/torch_legacy.h"
#include "ptq/base/error.h"
#include "read_all.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ptq::ByteSource source(std::as_bytes(std::span(data, size)), "input");
  try {
    ptq::read_all(source, ptq::parse_torch_legacy(source, ""));
  } catch (const ptq::Error&) {
  }
  return 0;
}
