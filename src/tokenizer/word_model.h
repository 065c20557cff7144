// The "model" of tokenizer.json: from a word to the ids of its tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/merge_table.h"
#include "tokenizer/vocabulary.h"
#include "tokenizer/word_cache.h"

namespace ptq {

// What one call of encode() works with; kept between calls for its cache.
struct WordScratch {
  WordCache cache;
  std::vector<uint32_t> symbols;
  std::vector<Merge> merges;
  std::vector<uint32_t> previous;
  std::vector<uint32_t> next;
  std::vector<uint64_t> heap;
};

class WordModel {
 public:
  virtual ~WordModel() = default;
  // Appends the ids of `word`. REQUIRES: valid UTF-8, unless the model was made to take bytes.
  virtual void encode(std::string_view word, WordScratch& scratch, std::vector<int64_t>& ids) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;

  // The ASCII characters after which a word can be cut before `space`, which is one character: the ids of the
  // two parts are those of the whole.
  virtual std::array<bool, 128> apart_from(std::string_view space) const = 0;
  // Whether the same holds between a line feed and any character after it but another line feed.
  virtual bool apart_after_newline() const = 0;
};

// Appends the ids of `word` to `ids`: those of the scratch's cache, or what `make` leaves in its symbols.
template <typename Make>
void encode_once(std::string_view word, WordScratch& scratch, std::vector<int64_t>& ids, const Make& make) {
  const bool cached = word.size() <= WordCache::kMaxWordBytes;
  const uint64_t hash = cached ? WordCache::hash(word) : 0;
  if (cached) {
    bool found = false;
    const auto known = scratch.cache.find(word, hash, &found);
    ids.insert(ids.end(), known.begin(), known.end());
    if (found) return;
  }
  scratch.symbols.clear();
  make();
  ids.insert(ids.end(), scratch.symbols.begin(), scratch.symbols.end());
  if (cached) scratch.cache.insert(word, hash, scratch.symbols);
}

}  // namespace ptq
