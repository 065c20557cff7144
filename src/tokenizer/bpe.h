// Byte-pair encoding: a word is cut into characters, then the pair of neighbours with the lowest rank is
// joined, the leftmost of equals first, until no pair is in the list of merges.
//
//   "lower" with merges  l o, lo w, e r :  l o w e r -> lo w e r -> low e r -> low er
//
// A short word looks at all its pairs again after each merge, which is the fastest way for a dozen
// characters. A long one (text that is not split, a line of dashes) keeps its candidate merges in a heap: O(n
// log n). The result is the same: candidates are done in the order (rank, position), and one whose pair is
// gone is dropped.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/component.h"
#include "tokenizer/word_model.h"

namespace ptq {

// The token that stands for a byte of a character that is no token: "<0x0A>".
std::string byte_fallback_name(unsigned char byte);

class Bpe : public WordModel {
 public:
  // `model` is the "model" object of tokenizer.json. With `takes_bytes`, words are raw bytes that stand for
  // their characters of the byte alphabet. Throws Error for anything that is not a BPE model whose parts fit
  // together.
  Bpe(Component& model, bool takes_bytes);

  void encode(std::string_view word, WordScratch& scratch, std::vector<int64_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::array<bool, 128> apart_from(std::string_view space) const override;
  bool apart_after_newline() const override;

 private:
  static constexpr uint32_t kNoId = UINT32_MAX;

  void read_vocabulary(const Json& vocab, const std::string& where);
  void read_merges(const Json& merges, const std::string& where);
  void index_characters();

  bool bytes_never_join() const;
  uint32_t find(std::string_view token) const;
  uint32_t whole_word(std::string_view word) const;
  void cut(std::string_view word, std::vector<uint32_t>& symbols) const;
  bool fall_back_to_bytes(std::string_view character, std::vector<uint32_t>& symbols) const;
  void merge_short(WordScratch& scratch) const;
  void merge_long(WordScratch& scratch) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  bool takes_bytes_;
  bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
  bool fuse_unk_ = false;
  uint32_t unk_id_ = kNoId;
  bool byte_fallback_ = false;
  bool merges_fallback_ = false;            // a merge has a byte's fallback token as a part
  std::array<uint32_t, 256> fallback_ids_;  // of <0x00> to <0xFF>
  std::array<uint32_t, 256> single_ids_;    // of the character of a byte, or of an ASCII character
};

}  // namespace ptq
