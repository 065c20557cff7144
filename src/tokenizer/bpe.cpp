#include "tokenizer/bpe.h"

#include <algorithm>
#include <functional>

#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace ptq {
namespace {

// Above this many symbols the heap wins over looking at all pairs.
constexpr size_t kLongWord = 48;

}  // namespace

void Bpe::encode(std::string_view word, WordScratch& scratch, std::vector<int64_t>& ids) const {
  encode_once(word, scratch, ids, [&] {
    if (const uint32_t whole = ignore_merges_ ? whole_word(word) : kNoId; whole != kNoId) {
      scratch.symbols.push_back(whole);
      return;
    }
    cut(word, scratch.symbols);
    if (scratch.symbols.size() < kLongWord) {
      merge_short(scratch);
    } else {
      merge_long(scratch);
    }
  });
}

// A merge makes a token of its parts' strings, so a merge across the two characters would have made a token
// that has both. The character before the place must be known: an unknown one waits for what follows it.
std::array<bool, 128> Bpe::apart_from(std::string_view space) const {
  const std::string mark = takes_bytes_ ? to_byte_characters(space) : std::string(space);
  std::array<bool, 128> apart{};
  if (find(mark) == kNoId) return apart;
  for (size_t c = 0; c < apart.size(); ++c) apart[c] = single_ids_[c] != kNoId;
  vocabulary_.for_each([&](std::string_view token) {
    for (size_t at = token.find(mark, 1); at != std::string_view::npos; at = token.find(mark, at + 1)) {
      if (token[at - 1] >= 0) apart[static_cast<size_t>(token[at - 1])] = false;
    }
  });
  return apart;
}

bool Bpe::apart_after_newline() const {
  const std::string newline = takes_bytes_ ? byte_character('\n') : "\n";
  if (find(newline) == kNoId && !bytes_never_join()) return false;
  bool apart = true;
  vocabulary_.for_each([&](std::string_view token) {
    for (size_t at = token.find(newline); at != std::string_view::npos; at = token.find(newline, at + 1)) {
      const std::string_view rest = token.substr(at + newline.size());
      if (!rest.empty() && !rest.starts_with(newline)) apart = false;
    }
  });
  return apart;
}

// Every byte that is no character of the vocabulary becomes its own token and stays one.
bool Bpe::bytes_never_join() const {
  const bool all = std::find(fallback_ids_.begin(), fallback_ids_.end(), kNoId) == fallback_ids_.end();
  return byte_fallback_ && all && !merges_fallback_;
}

uint32_t Bpe::find(std::string_view token) const {
  const int64_t id = vocabulary_.find(token);
  return id < 0 ? kNoId : static_cast<uint32_t>(id);
}

uint32_t Bpe::whole_word(std::string_view word) const {
  return takes_bytes_ ? find(to_byte_characters(word)) : find(word);
}

// Writes the token of every character. A character that is no token becomes its bytes' fallback tokens or
// else the unknown token; without either it is dropped, as the reference does. The unknown token waits until
// the next known character, so that neighbours can be fused; bytes that fall back do not end the wait.
void Bpe::cut(std::string_view word, std::vector<uint32_t>& symbols) const {
  bool unknown_waits = false;
  size_t length = 1;
  for (size_t at = 0; at < word.size(); at += length) {
    const auto byte = static_cast<unsigned char>(word[at]);
    uint32_t id = kNoId;
    if (takes_bytes_ || byte < 0x80) {
      length = 1;
      id = single_ids_[byte];
    } else {
      length = utf8_length(word[at]);
      id = find(word.substr(at, length));
    }
    if (id != kNoId) {
      if (unknown_waits) symbols.push_back(unk_id_);
      unknown_waits = false;
      symbols.push_back(id);
      continue;
    }
    const std::string_view character = takes_bytes_ ? byte_character(byte) : word.substr(at, length);
    if (byte_fallback_ && fall_back_to_bytes(character, symbols)) continue;
    if (unk_id_ == kNoId) continue;
    if (unknown_waits && !fuse_unk_) symbols.push_back(unk_id_);
    unknown_waits = true;
  }
  if (unknown_waits) symbols.push_back(unk_id_);
}

bool Bpe::fall_back_to_bytes(std::string_view character, std::vector<uint32_t>& symbols) const {
  const size_t size_before = symbols.size();
  for (const char byte : character) {
    const uint32_t id = fallback_ids_[static_cast<unsigned char>(byte)];
    if (id == kNoId) {
      symbols.resize(size_before);
      return false;
    }
    symbols.push_back(id);
  }
  return true;
}

void Bpe::merge_short(WordScratch& scratch) const {
  auto& symbols = scratch.symbols;
  Merge pairs[kLongWord];
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_.find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    const size_t best = static_cast<size_t>(std::min_element(pairs, pairs + count - 1) - pairs);
    if (pairs[best] == kNoMerge) break;
    symbols[best] = merge_result(pairs[best]);
    std::copy(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              symbols.begin() + static_cast<std::ptrdiff_t>(count),
              symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(pairs + best + 1, pairs + count - 1, pairs + best);
    --count;
    if (best > 0) pairs[best - 1] = merges_.find(symbols[best - 1], symbols[best]);
    if (best + 1 < count) pairs[best] = merges_.find(symbols[best], symbols[best + 1]);
  }
  symbols.resize(count);
}

void Bpe::merge_long(WordScratch& scratch) const {
  constexpr uint32_t kNone = UINT32_MAX;
  auto& [cache, symbols, pairs, previous, next, heap] = scratch;
  const size_t count = symbols.size();
  if (count >= kNone)
    throw Error("tokenizer", "a piece of " + std::to_string(count) + " characters is too long");
  // pairs[i] is the merge of symbol i and its right neighbour. A heap entry (rank, i) is stale unless
  // pairs[i] still has that rank: a symbol only ever grows, so the same pair does not come back.
  pairs.assign(count, kNoMerge);
  previous.resize(count);
  next.resize(count);
  heap.clear();
  const auto entry = [](Merge merge, size_t at) { return (merge & ~Merge{UINT32_MAX}) | at; };
  const auto later = std::greater<uint64_t>();
  for (size_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? kNone : static_cast<uint32_t>(i - 1);
    next[i] = i + 1 == count ? kNone : static_cast<uint32_t>(i + 1);
    if (next[i] == kNone) break;
    pairs[i] = merges_.find(symbols[i], symbols[i + 1]);
    if (pairs[i] != kNoMerge) heap.push_back(entry(pairs[i], i));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto look_at_pair = [&](uint32_t at) {
    pairs[at] = next[at] == kNone ? kNoMerge : merges_.find(symbols[at], symbols[next[at]]);
    if (pairs[at] == kNoMerge) return;
    heap.push_back(entry(pairs[at], at));
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto at = static_cast<uint32_t>(top);
    if (pairs[at] == kNoMerge || merge_rank(pairs[at]) != merge_rank(top)) continue;
    const uint32_t gone = next[at];
    symbols[at] = merge_result(pairs[at]);
    symbols[gone] = kNoId;
    pairs[gone] = kNoMerge;
    next[at] = next[gone];
    if (next[at] != kNone) previous[next[at]] = at;
    look_at_pair(at);
    if (previous[at] != kNone) look_at_pair(previous[at]);
  }
  std::erase(symbols, kNoId);
}

}  // namespace ptq
