// Unigram: of all ways to cut a word into tokens, the one whose log probabilities sum to most (SentencePiece;
// Kudo 2018).
//
//   "abc" with a -2, b -2, c -2, ab -3, bc -2.5:  ab c = -5, a bc = -4.5, a b c = -6  ->  a bc
//
// One pass from left to right keeps for each place the best way to get there (Viterbi); sums are float64 in
// that order and the first of equals stays, as in the reference library, so that ties fall the same way. A
// character that starts no token of its length becomes the unknown token at ten less than the lowest score;
// neighbours of them are one.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/component.h"
#include "tokenizer/word_model.h"

namespace ptq {

class Unigram : public WordModel {
 public:
  // `model` is the "model" object of tokenizer.json. Throws Error for what is no Unigram model whose parts
  // fit together, and with `takes_bytes`, which none is made for.
  Unigram(Component& model, bool takes_bytes);

  void encode(std::string_view word, WordScratch& scratch, std::vector<int64_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  // Sums in another order may round another way, so words are not cut.
  std::array<bool, 128> apart_from(std::string_view) const override { return {}; }
  bool apart_after_newline() const override { return false; }

 private:
  // The best way to a place: its score, and the token that ends there.
  struct Step {
    double score = 0;
    size_t begin = SIZE_MAX;  // of the token; SIZE_MAX: no way is known
    int64_t id = -1;
  };
  struct Entry {
    std::string_view text;
    int64_t id = 0;
  };
  struct Range {
    uint32_t begin = 0;
    uint32_t end = 0;
  };

  void read_vocabulary(Component& model);
  void index_entries();
  void take_tokens_at(std::string_view word, size_t at, std::vector<Step>& steps) const;
  void append_token(std::string_view text, std::vector<uint32_t>& ids) const;
  std::vector<std::string_view> best_tokens(std::string_view word) const;

  Vocabulary vocabulary_;
  std::vector<double> scores_;  // by id
  std::vector<Entry> entries_;  // sorted by text
  std::array<Range, 256> by_first_byte_{};
  double unknown_score_ = 0;
  int64_t unknown_id_ = -1;
  bool byte_fallback_ = false;
};

}  // namespace ptq
