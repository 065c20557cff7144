#include "tokenizer/file_magic.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace ptq {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kToText = "write its texts to a .jsonl file, one {\"text\": ...} a line";
constexpr std::string_view kUnpack = "unpack it and name the text in it";
constexpr std::string_view kToNpy = "write its token ids to a .npy file";
constexpr std::string_view kRename = "give the file a name that ends in .npy";

struct Magic {
  size_t offset;
  std::string_view bytes;
  FileKind kind;
};

constexpr Magic kMagics[] = {
    {0, "PAR1"sv, {"a Parquet file", kToText}},
    {0, "ARROW1"sv, {"an Arrow file", kToText}},
    {0, "\xFF\xFF\xFF\xFF"sv, {"an Arrow stream", kToText}},
    {0, "FEA1"sv, {"a Feather file", kToText}},
    {0, "Obj\x01"sv, {"an Avro file", kToText}},
    {0, "ORC"sv, {"an ORC file", kToText}},
    {0, "\x89HDF\r\n"sv, {"an HDF5 file", kToText}},
    {0, "SQLite format 3\0"sv, {"an SQLite database", kToText}},
    {0, "\x93NUMPY"sv, {"a NumPy array", kRename}},
    {0, "PK\x03\x04"sv, {"a zip archive", kUnpack}},
    {0, "PK\x05\x06"sv, {"an empty zip archive", kUnpack}},
    {0, kGzipMagic, {"gzip data inside gzip data", kUnpack}},
    {0, "\x28\xB5\x2F\xFD"sv, {"zstd data", "unpack it: zstd -d"}},
    {4, "1AY&SY"sv, {"bzip2 data", "unpack it: bunzip2"}},
    {0, "\xFD\x37zXZ\0"sv, {"xz data", "unpack it: unxz"}},
    {0, "\x04\x22\x4D\x18"sv, {"lz4 data", "unpack it: lz4 -d"}},
    {0, "7z\xBC\xAF\x27\x1C"sv, {"a 7z archive", kUnpack}},
    {0, "Rar!\x1A"sv, {"a RAR archive", kUnpack}},
    {257, "ustar"sv, {"a tar archive", kUnpack}},
    {0, "GGUF"sv, {"a GGUF model", "a text"}},
    {8, "{\""sv, {"a safetensors file", "give the file a name that ends in .safetensors; input_ids is read"}},
    {0, "\x80\x02"sv, {"a Python pickle", kToNpy}},
    {0, "\x80\x03"sv, {"a Python pickle", kToNpy}},
    {0, "\x80\x04"sv, {"a Python pickle", kToNpy}},
    {0, "\x80\x05"sv, {"a Python pickle", kToNpy}},
    {0, "%PDF-"sv, {"a PDF document", "extract its text: pdftotext"}},
    {0, "\xD0\xCF\x11\xE0"sv, {"a Microsoft Office document", "save it as plain text"}},
    {0, "{\\rtf"sv, {"an RTF document", "save it as plain text"}},
    {0,
     "\x7F"
     "ELF"sv,
     {"a program", "a text"}},
    {0, "\x89PNG"sv, {"a PNG image", "a text"}},
    {0, "\xFF\xD8\xFF"sv, {"a JPEG image", "a text"}},
    {0, "GIF8"sv, {"a GIF image", "a text"}},
    {0,
     "version https://git-lfs.github.com/spec/"sv,
     {"a Git LFS pointer, in place of a file that was not fetched", "git lfs pull"}},
    {0, "\xFF\xFE\0\0"sv, {"UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8"}},
    {0, "\0\0\xFE\xFF"sv, {"UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8"}},
};

// What a zip archive is told by the name of its first entry, which follows a header of 30 bytes.
FileKind kind_of_zip(std::string_view head) {
  const std::string_view entries = head.size() > 30 ? head.substr(30) : std::string_view();
  if (entries.find("/data.pkl") < 256) return {"a PyTorch file", kToNpy};
  if (entries.find(".npy") < 256)
    return {"a NumPy archive (.npz)", "save the array of token ids alone, as .npy"};
  if (entries.starts_with("[Content_Types].xml"))
    return {"a Microsoft Office document", "save it as plain text"};
  return {"a zip archive", kUnpack};
}

// Whether the head of a file has bytes that no text in UTF-8 has: a text may well begin with "ORC".
bool is_binary(std::string_view head) {
  constexpr size_t kCutCharacter = 3;  // bytes at the end that may be the beginning of a character
  if (head.size() > valid_utf8_prefix(head) + kCutCharacter) return true;
  return std::any_of(head.begin(), head.end(), [](char c) { return c >= 0 && c < '\t'; });
}

// Beginnings that are enough, though they are made of letters.
bool is_certain(std::string_view magic) {
  const bool printable = std::all_of(magic.begin(), magic.end(), [](char c) { return c >= ' ' && c < 0x7F; });
  return !printable || magic == "%PDF-" || magic == "{\\rtf" || magic.starts_with("version https://git-lfs");
}

}  // namespace

FileKind kind_by_magic(std::string_view head) {
  const bool binary = is_binary(head);
  for (const Magic& magic : kMagics) {
    if (head.size() < magic.offset || !head.substr(magic.offset).starts_with(magic.bytes)) continue;
    if (!binary && !is_certain(magic.bytes)) continue;
    // A safetensors file begins with the length of its header, whose upper bytes are zero; a text may have {"
    // there.
    if (magic.offset == 8 && head.substr(4, 4) != "\0\0\0\0"sv) continue;
    return magic.bytes.starts_with("PK\x03") ? kind_of_zip(head) : magic.kind;
  }
  return {};
}

}  // namespace ptq
