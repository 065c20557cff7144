#include "tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "ptq/base/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/sorted_strings.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

constexpr double kUnknownPenalty = 10;

}  // namespace

Unigram::Unigram(Component& model, bool takes_bytes) {
  if (takes_bytes) throw Error(model.path(), "a Unigram model after a ByteLevel pre-tokenizer is not known");
  model.has("type");
  read_vocabulary(model);
  byte_fallback_ = model.boolean("byte_fallback", false);
  if (model.has("unk_id")) {
    unknown_id_ = model.integer("unk_id", -1);
    if (unknown_id_ < 0 || unknown_id_ >= vocabulary_.count()) {
      throw Error(model.path() + ".unk_id", std::to_string(unknown_id_) + " is not an id of the " +
                                                std::to_string(vocabulary_.count()) + " tokens");
    }
  }
  model.refuse_others();
  index_entries();
}

// [[token, score], ...]: ids are positions.
void Unigram::read_vocabulary(Component& model) {
  double lowest = std::numeric_limits<double>::infinity();
  model.for_each_in("vocab", [&](const Json& entry, const std::string& path) {
    const bool is_pair =
        entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!is_pair) throw Error(path, "expected [token, score]");
    vocabulary_.add(entry[0].get<std::string>(), static_cast<int64_t>(scores_.size()), path);
    scores_.push_back(entry[1].get<double>());
    lowest = std::min(lowest, scores_.back());
  });
  if (scores_.empty()) throw Error(model.path() + ".vocab", "is empty");
  unknown_score_ = lowest - kUnknownPenalty;
}

void Unigram::index_entries() {
  for (int64_t id = 0; id < vocabulary_.count(); ++id) {
    const std::string_view text = *vocabulary_.token(id);
    if (!text.empty()) entries_.push_back({text, id});
  }
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) { return a.text < b.text; });
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    Range& range = by_first_byte_[static_cast<unsigned char>(entries_[i].text[0])];
    if (range.end == 0) range.begin = i;
    range.end = i + 1;
  }
}

// Every token that `word` has at `at`, from the shortest on: of sorted strings those with a common beginning
// are neighbours, and of these the one that ends there comes first.
void Unigram::take_tokens_at(std::string_view word, size_t at, std::vector<Step>& steps) const {
  const double score_here = steps[at].score;
  const size_t character = utf8_length(word[at]);
  bool has_character = false;
  const auto offer = [&](size_t length, double score, int64_t id) {
    Step& step = steps[at + length];
    if (step.begin != SIZE_MAX && !(score > step.score)) return;
    step = {score, at, id};
  };
  auto [begin, end] = by_first_byte_[static_cast<unsigned char>(word[at])];
  for (size_t length = 1; begin < end; ++length) {
    if (entries_[begin].text.size() == length) {
      const int64_t id = entries_[begin++].id;
      offer(length, scores_[static_cast<size_t>(id)] + score_here, id);
      has_character = has_character || length == character;
    }
    if (begin == end || at + length >= word.size()) break;
    std::tie(begin, end) = with_byte(entries_, begin, end, length, word[at + length]);
  }
  if (has_character) return;
  if (unknown_id_ < 0) {
    throw Error("tokenizer", "\"" + std::string(word.substr(at, character)) +
                                 "\" is no token, and the model has no unk_id");
  }
  offer(character, unknown_score_ + score_here, unknown_id_);
}

std::vector<std::string_view> Unigram::best_tokens(std::string_view word) const {
  std::vector<Step> steps(word.size() + 1);
  for (size_t at = 0; at < word.size(); at += utf8_length(word[at])) take_tokens_at(word, at, steps);
  std::vector<std::string_view> tokens;
  bool after_unknown = false;
  for (size_t end = word.size(); end > 0;) {
    const Step& step = steps[end];
    const bool unknown = step.id == unknown_id_;
    const std::string_view text = word.substr(step.begin, end - step.begin);
    if (unknown && after_unknown) {
      tokens.back() = word.substr(step.begin, text.size() + tokens.back().size());
    } else {
      tokens.push_back(text);
    }
    after_unknown = unknown;
    end = step.begin;
  }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

void Unigram::append_token(std::string_view text, std::vector<uint32_t>& ids) const {
  int64_t id = vocabulary_.find(text);
  if (id < 0 && byte_fallback_) {
    const size_t size_before = ids.size();
    for (const char byte : text) {
      id = vocabulary_.find(byte_fallback_name(static_cast<unsigned char>(byte)));
      if (id < 0) break;
      ids.push_back(static_cast<uint32_t>(id));
    }
    if (id >= 0) return;
    ids.resize(size_before);
  }
  ids.push_back(static_cast<uint32_t>(id >= 0 ? id : unknown_id_));
}

void Unigram::encode(std::string_view word, WordScratch& scratch, std::vector<int64_t>& ids) const {
  encode_once(word, scratch, ids, [&] {
    for (const std::string_view token : best_tokens(word)) append_token(token, scratch.symbols);
  });
}

}  // namespace ptq
