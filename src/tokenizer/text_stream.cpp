#include "ptq/tokenizer/text_stream.h"

#include <string_view>

namespace ptq {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

}  // namespace

std::string TextStream::give(const std::string& text) {
  // A run of bytes that turned out to be no text; what was given stands.
  if (!text.starts_with(given_)) return "";
  std::string added = text.substr(given_.size());
  given_ = text;
  return added;
}

std::string TextStream::begin(const std::vector<int64_t>& ids) {
  for (const int64_t id : ids) add(id);
  given_ = tokenizer_.decode(tail_);
  return tokenizer_.decode(ids);
}

std::string TextStream::add(int64_t id) {
  tail_.push_back(id);
  // A token without a text of its own is not known, and then ends no run of bytes; or it is a space, which
  // decoders take off the first token.
  std::string own = tokenizer_.decode({id});
  if (tokenizer_.is_byte(id) || own.empty()) return "";
  std::string text = tokenizer_.decode(tail_);
  // Of the bytes at the end only those of the last U+FFFD can be the beginning of a character.
  if (text.ends_with(kReplacement)) {
    text.resize(text.size() - kReplacement.size());
    return text.size() > given_.size() ? give(text) : "";
  }
  std::string added = give(text);
  // What stands before a token matters to it only by being there.
  tail_ = {id};
  given_ = std::move(own);
  return added;
}

std::string TextStream::finish() {
  return give(tokenizer_.decode(tail_));
}

}  // namespace ptq
