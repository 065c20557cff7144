// Text to token ids and back, from a Hugging Face tokenizer.json.
//
// Components that the file names and this program does not know are an Error that names them: a tokenizer
// that is nearly right gives a perplexity that is quietly wrong. The oracle is the `tokenizers` library, id
// for id.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

class Tokenizer {
 public:
  // Reads and checks the file. Throws Error.
  static std::unique_ptr<Tokenizer> from_file(const std::string& path);
  // `where` names the source in errors.
  static std::unique_ptr<Tokenizer> from_json(std::string_view json, const std::string& where);
  virtual ~Tokenizer() = default;

  // Token ids of `text`. Invalid UTF-8 is replaced as Rust's from_utf8_lossy does. With `add_special`, the
  // template's BOS/EOS are added. Thread safe.
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special) const = 0;
  // The first `count` ids of encode() for the text that `read` appends to its argument part by part, until it
  // returns false; all of them if there are fewer. Reads no further than needed: by the part, up to the next
  // place at which the text can be cut without changing an id; to the end for a tokenizer of which no such
  // place is known. Thread safe. Throws Error for a text that has no such place for too long.
  virtual std::vector<int64_t> encode_first(const std::function<bool(std::string&)>& read, size_t count,
                                            bool add_special) const = 0;
  // Text of `ids`; special tokens are kept unless `skip_special`. Ids that are not in the vocabulary are
  // skipped.
  virtual std::string decode(const std::vector<int64_t>& ids, bool skip_special = false) const = 0;
  // Whether the token stands for one byte by its number, as <0xE2> does.
  virtual bool is_byte(int64_t id) const = 0;
  // One more than the largest id, added tokens included.
  virtual int64_t vocab_size() const = 0;
  // The same of the vocabulary alone, without the tokens added to it.
  virtual int64_t own_vocab_size() const = 0;
};

}  // namespace ptq
