// Arbitrary bytes as an artifact, its configuration before its tensors: an Error, or a model that can be asked
// for the logits of a text. An input is the text of config.json, a NUL, and a safetensors file.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "checkpoint/stored_checkpoint.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/error.h"

namespace {

constexpr int64_t kMostTokens = 4;

std::unique_ptr<ptq::Checkpoint> checkpoint_of(std::span<const std::byte> input) {
  const auto end = std::ranges::find(input, std::byte{0});
  const std::string_view config = ptq::as_text({input.begin(), end});
  const auto tensors = input.subspan(end == input.end() ? input.size() : config.size() + 1);
  const ptq::ByteSource source(tensors, "input");
  auto checkpoint = std::make_unique<ptq::StoredCheckpoint>();
  checkpoint->add_file(source, ptq::parse_safetensors(source));
  std::vector<std::string> repeated;
  checkpoint->set_config(ptq::parse_python_json(config, "config.json", {}, repeated));
  checkpoint->finish();
  return checkpoint;
}

void run(const ptq::Model& model) {
  const int64_t tokens = std::min(kMostTokens, model.vocab_size());
  at::Tensor hidden = model.embed(at::arange(tokens).unsqueeze(0));
  for (int64_t i = 0; i < model.num_blocks(); ++i) hidden = model.load_block(i)->forward(hidden);
  model.logits(hidden);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const at::InferenceMode inference;
  try {
    const ptq::OpenModel open =
        ptq::open_model(checkpoint_of(std::as_bytes(std::span(data, size))), at::kCPU);
    run(*open.model);
  } catch (const ptq::Error&) {
  }
  return 0;
}
