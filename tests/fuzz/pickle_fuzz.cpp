// Arbitrary bytes as the pickle of a state dict over storages of 64 bytes: an Error, or tensors that lie in
// them.
#include <cstdint>

#include "checkpoint/torch_objects.h"
#include "ptq/base/error.h"
#include "read_all.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::byte kStorage[64] = {};
  const ptq::ByteSource storages(kStorage, "storages");
  for (const char* key : {"", "model.net"}) {
    try {
      const auto graph = ptq::parse_pickle(std::as_bytes(std::span(data, size)), "input");
      ptq::TensorFile file("input");
      file.add_storage({"all", 0, sizeof kStorage, std::nullopt});
      ptq::add_torch_tensors(graph, key, [](const ptq::TorchStorage&) { return 0U; }, file);
      ptq::read_all(storages, std::move(file));
    } catch (const ptq::Error&) {
    }
  }
  return 0;
}
