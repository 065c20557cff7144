// Text documents from files.
//
// What a file holds is told by its name, in any case of letters, after a ".gz" is taken off:
//
//   .jsonl, .ndjson  one JSON object a line; blank lines are skipped
//   .json            an array of strings or of objects; an object whose field is a string or an array of
//   strings; or, if
//                    the first line is an object of its own, the same as .jsonl
//   any other        one document
//
// The text of an object is its field "text", or another that is asked for. A field that is an array of chat
// messages ({"role": ..., "content": ...}) is the contents, joined by newlines; no chat template is applied.
//
// Bytes are UTF-8; a byte order mark is dropped. gzip data, told by its first bytes, is unpacked, and UTF-16
// with a mark is converted. All else is refused with what it seems to be: known binary formats by their first
// bytes, NUL bytes, what is not UTF-8. Memory: one line of .jsonl, a whole .json file, some 64 KiB of any
// other.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ptq {

// A text that a user names.
struct TextInput {
  std::string path;
  std::string field = {};                                // --text-field; empty: "text"
  std::shared_ptr<const std::string> content = nullptr;  // what came out of `path` if that is a pipe
};

class TextFile {
 public:
  // Throws Error if the file cannot be opened or its beginning is that of no text.
  explicit TextFile(const TextInput& input);
  ~TextFile();
  TextFile(TextFile&&) noexcept;

  // The next document, whole. Throws Error, naming the line, the field or the offset, for what is no text or
  // no JSON of the forms above.
  std::optional<std::string> next_document();

  // The next line that is not blank, without its end, of a file of any form; nothing at the end. For a
  // caller of this alone. Throws Error, naming the line or the offset, for what is no text and for a line
  // that is too long.
  std::optional<std::string> next_line();
  // "path: line 3": what the last next_line() is called in messages.
  std::string line_name() const;
  // Its number, from 1.
  int64_t line_number() const;

  // Whether the file has several documents, in one of the forms of JSON, and is not one document itself.
  bool is_json() const;

  // Appends the next part of all documents, joined by a newline each; documents before the first that is not
  // empty add none. False at the end. For one caller of either this or next_document(). Throws as that does.
  bool read(std::string& text);

  // Reads what is left for NUL bytes, invalid UTF-8 and damaged gzip data, and keeps nothing of it.
  void check_rest();

  // What had to be decided about the file to read it, a line each, with its path: that it was unpacked,
  // converted, or taken for a form of JSON that its name only hints at. Complete after the first read.
  std::vector<std::string> remarks() const;

 private:
  struct Source;
  std::unique_ptr<Source> source_;
  bool wrote_text_ = false;  // read() has appended something
};

// All documents of a file.
std::vector<std::string> read_documents(const TextInput& input);

// Whether `path` ends in `suffix`, whatever the case of its letters. REQUIRES: `suffix` in lower case.
bool has_suffix(const std::string& path, const std::string& suffix);

}  // namespace ptq
