// Arbitrary bytes as a zip archive and as what torch.save writes: an Error, or tensors whose bytes can be
// read.
#include <cstdint>

#include "checkpoint/torch_archive.h"
#include "checkpoint/zip.h"
#include "ptq/base/error.h"
#include "read_all.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ptq::ByteSource source(std::as_bytes(std::span(data, size)), "input");
  try {
    const ptq::ZipIndex zip(source);
    for (const ptq::ZipEntry& entry : zip.entries()) {
      if (!source.contains(entry.offset, entry.bytes)) std::abort();
      try {
        zip.read(entry.name, size);
      } catch (const ptq::Error&) {
      }
    }
    ptq::read_all(source, ptq::parse_torch_archive(source, ""));
  } catch (const ptq::Error&) {
  }
  return 0;
}
