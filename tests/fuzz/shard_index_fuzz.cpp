// Arbitrary bytes as an index of shards: an Error, or plain file names.
#include <cstdint>
#include <cstdlib>

#include "checkpoint/index.h"
#include "ptq/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto index = ptq::parse_index({reinterpret_cast<const char*>(data), size}, "input");
    for (const std::string& file : index.files) {
      if (file.find('/') != std::string::npos) std::abort();
    }
    for (const auto& entry : index.entries) {
      if (entry.file >= index.files.size()) std::abort();
    }
  } catch (const ptq::Error&) {
  }
  return 0;
}
