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
#include "tokenizer/merge_table.h"
#include "tokenizer/vocabulary.h"
#include "tokenizer/word_cache.h"

namespace ptq {

// What one call of encode() works with; kept between calls for its cache.
struct BpeScratch {
  WordCache cache;
  std::vector<uint32_t> symbols;
  std::vector<Merge> merges;
  std::vector<uint32_t> previous;
  std::vector<uint32_t> next;
  std::vector<uint64_t> heap;
};

class Bpe {
 public:
  // `model` is the "model" object of tokenizer.json. With `takes_bytes`, words are raw bytes that stand for
  // their characters of the byte alphabet. Throws Error for anything that is not a BPE model whose parts fit
  // together.
  Bpe(Component& model, bool takes_bytes);

  // Appends the ids of `word`. REQUIRES: valid UTF-8 unless takes_bytes.
  void encode(std::string_view word, BpeScratch& scratch, std::vector<int64_t>& ids) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  static constexpr uint32_t kNoId = UINT32_MAX;

  void read_vocabulary(const Json& vocab, const std::string& where);
  void read_merges(const Json& merges, const std::string& where);
  void index_characters();

  uint32_t find(std::string_view token) const;
  uint32_t whole_word(std::string_view word) const;
  void cut(std::string_view word, std::vector<uint32_t>& symbols) const;
  bool fall_back_to_bytes(std::string_view character, std::vector<uint32_t>& symbols) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  bool takes_bytes_;
  bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
  bool fuse_unk_ = false;
  uint32_t unk_id_ = kNoId;
  bool byte_fallback_ = false;
  std::array<uint32_t, 256> fallback_ids_;  // of <0x00> to <0xFF>
  std::array<uint32_t, 256> single_ids_;    // of the character of a byte, or of an ASCII character
};

}  // namespace ptq
