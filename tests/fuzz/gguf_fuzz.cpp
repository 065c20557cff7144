// Arbitrary bytes as a GGUF file: an Error, or a header of which every tensor can be read.
#include <cstdint>
#include <cstdlib>

#include "export/gguf/architectures.h"
#include "export/gguf/tokenizer.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

void read_tensors(const GgufFile& file, std::span<const std::byte> bytes) {
  uint64_t total = 0;
  for (const GgufTensor& tensor : file.tensors) {
    if (tensor.offset > bytes.size() || tensor.bytes > bytes.size() - tensor.offset) std::abort();
    if ((total += tensor.bytes) > (uint64_t{1} << 20)) return;
    const auto rows = static_cast<int64_t>(tensor.bytes) / ggml_type(tensor.type).row_bytes(tensor.columns());
    auto* data = const_cast<std::byte*>(bytes.data() + tensor.offset);
    const Tensor stored =
        at::from_blob(data, {rows, static_cast<int64_t>(tensor.bytes) / rows}, at::kByte).clone();
    const Tensor values = unpack_ggml(stored, tensor.type);
    if (values.size(0) != rows || values.size(1) != tensor.columns()) std::abort();
  }
}

// Each reader of the keys, whether or not another would have refused them.
template <typename Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace ptq

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  ptq::attempt([&] {
    const ptq::GgufFile file = ptq::parse_gguf(bytes, size, "input");
    ptq::read_tensors(file, bytes);
    ptq::attempt([&] { ptq::tokenizer_json_of(file, "input"); });
    ptq::config_of(ptq::find_gguf_architecture(file, "input"), file, "input");
  });
  return 0;
}
