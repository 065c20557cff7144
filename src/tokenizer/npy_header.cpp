#include "tokenizer/npy_header.h"

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kPreambleBytes = 8;         // magic and version
constexpr size_t kMaxTextBytes = 64 * 1024;  // a real one has about 118

constexpr std::pair<std::string_view, IntegerType> kIntegerTypes[] = {
    {"u8", {1, false, false}},     {"u16", {2, false, false}},    {"u32", {4, false, false}},
    {"u64", {8, false, false}},    {"i8", {1, true, false}},      {"i16", {2, true, false}},
    {"i32", {4, true, false}},     {"i64", {8, true, false}},     {"uint8", {1, false, false}},
    {"uint16", {2, false, false}}, {"uint32", {4, false, false}}, {"uint64", {8, false, false}},
    {"int8", {1, true, false}},    {"int16", {2, true, false}},   {"int32", {4, true, false}},
    {"int64", {8, true, false}},
};

// Reads the dictionary, a sliver of Python's syntax.
class DictReader {
 public:
  DictReader(std::string_view text, std::string where) : rest_(text), where_(std::move(where)) {}

  NpyHeader read() {
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !type_) {
        type_ = type_of(quoted());
      } else if (key == "fortran_order" && !fortran_) {
        fortran_ = boolean();
      } else if (key == "shape" && !shape_) {
        shape_ = tuple();
      } else {
        fail("unexpected key \"" + key + "\"");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) fail("text after the dictionary");
    return checked();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(where_, "malformed .npy header: " + what);
  }

  void skip_space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n' || rest_[0] == '\t'))
      rest_.remove_prefix(1);
  }

  bool accept(char wanted) {
    skip_space();
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(std::string("expected \"") + wanted + "\"");
  }

  std::string quoted() {
    skip_space();
    const char quote = rest_.empty() ? '\0' : rest_[0];
    const size_t end = quote == '\'' || quote == '"' ? rest_.find(quote, 1) : std::string_view::npos;
    if (end == std::string_view::npos) fail("expected a string; arrays of structures are not read");
    const std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }

  bool boolean() {
    skip_space();
    for (const auto& [word, value] : {std::pair{"True", true}, std::pair{"False", false}}) {
      if (!rest_.starts_with(word)) continue;
      rest_.remove_prefix(std::string_view(word).size());
      return value;
    }
    fail("expected True or False");
  }

  std::vector<size_t> tuple() {
    std::vector<size_t> sizes;
    expect('(');
    while (!accept(')')) {
      sizes.push_back(number());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  size_t number() {
    skip_space();
    size_t value = 0;
    size_t digits = 0;
    for (; digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9'; ++digits) {
      if (digits == 18) fail("a size of more than 18 digits");
      value = value * 10 + static_cast<size_t>(rest_[digits] - '0');
    }
    if (digits == 0) fail("expected a size");
    rest_.remove_prefix(digits);
    return value;
  }

  IntegerType type_of(const std::string& descr) const {
    IntegerType type;
    if (descr.size() == 3 && std::string_view("<>|=").find(descr[0]) != std::string_view::npos &&
        (descr[1] == 'i' || descr[1] == 'u') &&
        std::string_view("1248").find(descr[2]) != std::string_view::npos) {
      type.bytes = static_cast<size_t>(descr[2] - '0');
      type.is_signed = descr[1] == 'i';
      type.big_endian = descr[0] == '>';
      return type;
    }
    throw Error(where_, "an array of type \"" + descr + "\"; token ids are integers of 8 to 64 bits");
  }

  NpyHeader checked() const {
    if (!type_ || !fortran_ || !shape_) fail("descr, fortran_order or shape is missing");
    const std::vector<size_t>& shape = *shape_;
    if (shape.empty() || shape.size() > 2) {
      throw Error(where_,
                  "an array of " + std::to_string(shape.size()) + " dimensions; token ids have 1 or 2");
    }
    if (*fortran_ && shape.size() == 2)
      throw Error(where_, "the array is in Fortran order", "np.ascontiguousarray");
    NpyHeader header;
    header.type = *type_;
    header.count = shape[0];
    if (shape.size() == 2 && __builtin_mul_overflow(shape[0], shape[1], &header.count))
      fail("the shape overflows");
    return header;
  }

  std::string_view rest_;
  std::string where_;
  std::optional<IntegerType> type_;
  std::optional<bool> fortran_;
  std::optional<std::vector<size_t>> shape_;
};

std::string read_text(const MappedFile& file, size_t offset, size_t length) {
  if (offset > file.size() || length > file.size() - offset) {
    throw Error(file.path(), "the .npy header needs " + std::to_string(offset + length) +
                                 " bytes, the file has " + std::to_string(file.size()));
  }
  std::string text(length, '\0');
  file.read_into(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace

IntegerType integer_type(const std::string& name) {
  std::vector<std::string> known;
  for (const auto& [known_name, type] : kIntegerTypes) {
    if (name == known_name) return type;
    known.emplace_back(known_name);
  }
  throw usage_error("token type", "unknown integer type \"" + name + "\"", suggest(name, known));
}

NpyHeader read_npy_header(const MappedFile& file) {
  const std::string preamble = read_text(file, 0, kPreambleBytes);
  if (!preamble.starts_with(kMagic)) throw Error(file.path(), "does not start as a .npy file does");
  const int major = preamble[6];
  if (major < 1 || major > 3) {
    throw Error(file.path(), "version " + std::to_string(major) + " of the .npy format; 1 to 3 are read");
  }
  const size_t length_bytes = major == 1 ? 2 : 4;
  const std::string length_text = read_text(file, kPreambleBytes, length_bytes);
  size_t length = 0;
  for (size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(length_text[i]);
  if (length > kMaxTextBytes) {
    throw Error(file.path(), "a .npy header of " + std::to_string(length) + " bytes; at most " +
                                 std::to_string(kMaxTextBytes) + " are read");
  }
  const size_t offset = kPreambleBytes + length_bytes;
  NpyHeader header = DictReader(read_text(file, offset, length), file.path()).read();
  header.data_offset = offset + length;
  return header;
}

}  // namespace ptq
