#include "ptq/calibration/tokens.h"

#include <algorithm>

#include "ptq/base/error.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/weight.h"
#include "ptq/tokenizer/token_file.h"

namespace ptq {
namespace {

std::vector<int64_t> ids_of_safetensors(const std::string& path) {
  const auto file = open_checkpoint(path, CheckpointOptions::of_any_tensors());
  const at::Tensor ids = as_tensor(file->read("input_ids"));
  if (!at::isIntegralType(ids.scalar_type(), /*includeBool=*/false)) {
    throw Error(path, "input_ids has dtype " + std::string(dtype_name(file->find("input_ids")->dtype)) +
                          "; token ids are integers");
  }
  const at::Tensor flat = ids.to(at::kLong).flatten().contiguous();
  const auto* begin = flat.const_data_ptr<int64_t>();
  return {begin, begin + flat.numel()};
}

std::vector<int64_t> tokenize_file(const TextInput& input, const Tokenizer& tokenizer, int64_t count,
                                   std::vector<std::string>& remarks) {
  TextFile file(input);
  std::vector<int64_t> ids = tokenizer.encode_first([&](std::string& text) { return file.read(text); },
                                                    static_cast<size_t>(count), /*add_special=*/true);
  file.check_rest();
  for (std::string& remark : file.remarks()) remarks.push_back(std::move(remark));
  return ids;
}

}  // namespace

bool is_text_file(const std::string& path) {
  return !has_suffix(path, ".npy") && !has_suffix(path, ".bin") && !has_suffix(path, ".safetensors");
}

std::vector<int64_t> read_tokens(const TokenSource& source, const Tokenizer* tokenizer, int64_t vocab_size,
                                 int64_t count, std::vector<std::string>& remarks) {
  const std::string& path = source.text.path;
  std::vector<int64_t> ids;
  if (has_suffix(path, ".safetensors")) {
    ids = ids_of_safetensors(path);
  } else if (!is_text_file(path)) {
    ids = read_token_file(path, source.token_dtype);
  } else if (tokenizer != nullptr) {
    ids = tokenize_file(source.text, *tokenizer, count, remarks);
  } else {
    throw Error(path, "is text, and there is no tokenizer.json beside the model",
                "--tokenizer FILE, or token ids as .npy, .safetensors (input_ids) or .bin");
  }
  if (ids.empty()) throw Error(path, "holds no tokens");
  const auto [low, high] = std::minmax_element(ids.begin(), ids.end());
  if (*low < 0 || *high >= vocab_size) {
    throw Error(path,
                "holds the token id " + std::to_string(*low < 0 ? *low : *high) +
                    "; the model's vocabulary has " + std::to_string(vocab_size) + " entries",
                "the tokenizer, or the ids, belong to another model");
  }
  if (static_cast<int64_t>(ids.size()) > count) ids.resize(static_cast<size_t>(count));
  return ids;
}

at::Tensor first_windows(const std::vector<int64_t>& ids, int64_t count, int64_t length,
                         const std::string& where) {
  const int64_t available = static_cast<int64_t>(ids.size()) / length;
  if (available == 0) {
    throw Error(where,
                "has " + std::to_string(ids.size()) + " tokens; one window needs " + std::to_string(length),
                "a longer text, or a smaller --seq-len");
  }
  const int64_t taken = std::min(count, available);
  return at::tensor(at::ArrayRef<int64_t>(ids.data(), static_cast<size_t>(taken * length)), at::kLong)
      .reshape({taken, length});
}

at::Tensor in_turns(const std::vector<at::Tensor>& parts) {
  int64_t most = 0;
  for (const at::Tensor& part : parts) most = std::max(most, part.size(0));
  std::vector<at::Tensor> windows;
  for (int64_t turn = 0; turn < most; ++turn) {
    for (const at::Tensor& part : parts)
      if (turn < part.size(0)) windows.push_back(part[turn]);
  }
  return at::stack(windows);
}

}  // namespace ptq
