#include "checkpoint/file_kind.h"

#include <algorithm>

#include "checkpoint/safetensors.h"
#include "checkpoint/torch_archive.h"
#include "checkpoint/torch_legacy.h"
#include "ptq/base/download.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr size_t kHeadBytes = 512;
constexpr size_t kTarMagicAt = 257;

[[noreturn]] void refuse(const ByteSource& source, std::string_view head) {
  const std::string& path = source.path();
  if (head.size() > kTarMagicAt && head.substr(kTarMagicAt).starts_with("ustar")) {
    throw Error(path, "a tar file, as PyTorch before 0.4 wrote, which is not read",
                "load it with torch.load and save it again");
  }
  if (head.starts_with("GGUF")) throw Error(path, "a GGUF file, which is not a float checkpoint we read");
  if (head.starts_with("\x1f\x8b")) throw Error(path, "a gzip file", "unpack it first");
  if (head.starts_with("\x89HDF")) throw Error(path, "an HDF5 file, which is not read");
  if (const auto mistaken = mistaken_download(head)) throw Error(path, mistaken->what, mistaken->hint);
  const bool is_text = std::ranges::all_of(
      head, [](char c) { return (c >= ' ' && c <= '~') || c == '\n' || c == '\r' || c == '\t'; });
  if (path.ends_with(".safetensors") && !is_text) {
    // It has no magic number; its own reader says best what is wrong.
    parse_safetensors(source);
  }
  constexpr size_t kShownText = 80, kShownBytes = 16;  // a server's message; a magic number
  throw Error(path,
              std::string("neither safetensors nor a PyTorch file: it ") + (is_text ? "is text that " : "") +
                  "begins with \"" + printable(head.substr(0, is_text ? kShownText : kShownBytes)) + "\"",
              is_text ? "download the file again" : "");
}

}  // namespace

FileKind file_kind(const ByteSource& source) {
  const Slice slice = source.slice(0, std::min(source.size(), kHeadBytes));
  const std::string_view head = as_text(slice.bytes);
  if (looks_like_safetensors(source)) return FileKind::kSafetensors;
  if (head.starts_with("PK\x03\x04") || head.starts_with("PK\x05\x06")) return FileKind::kTorchArchive;
  // PROTO 2 to 5 and, in the first pickle of a legacy file, a LONG1.
  if (head.size() > 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5) return FileKind::kTorchLegacy;
  const size_t first = head.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && head[first] == '{') return FileKind::kIndex;
  refuse(source, head);
}

TensorFile parse_tensor_file(const ByteSource& source, const std::string& state_key) {
  switch (file_kind(source)) {
    case FileKind::kSafetensors:
      if (!state_key.empty()) throw usage_error("--state-key", "a safetensors file has no nested dicts");
      return parse_safetensors(source);
    case FileKind::kTorchArchive:
      return parse_torch_archive(source, state_key);
    case FileKind::kTorchLegacy:
      return parse_torch_legacy(source, state_key);
    case FileKind::kIndex:
      break;
  }
  throw Error(source.path(), "an index of shards where a file of tensors is due");
}

}  // namespace ptq
