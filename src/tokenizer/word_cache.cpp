#include "tokenizer/word_cache.h"

#include <cstring>

namespace ptq {
namespace {

// With words of 64 bytes at most this bounds the cache at some 12 MB.
constexpr size_t kMaxWords = size_t{1} << 16;

}  // namespace

uint64_t WordCache::hash(std::string_view word) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio
  uint64_t state = word.size() * kOdd;
  const auto mix = [&](uint64_t bits) {
    state = (state ^ bits) * kOdd;
    state ^= state >> 29;
  };
  size_t at = 0;
  uint64_t bits = 0;
  for (; at + sizeof bits <= word.size(); at += sizeof bits) {
    std::memcpy(&bits, word.data() + at, sizeof bits);
    mix(bits);
  }
  bits = 0;
  for (size_t shift = 0; at < word.size(); ++at, shift += 8) {
    bits |= static_cast<uint64_t>(static_cast<unsigned char>(word[at])) << shift;
  }
  mix(bits);
  return state;
}

std::span<const uint32_t> WordCache::find(std::string_view word, uint64_t hash, bool* found) const {
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask; slots_[i].word_bytes != 0; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.hash != hash || slot.word_bytes != word.size()) continue;
    if (std::memcmp(words_.data() + slot.word_begin, word.data(), word.size()) != 0) continue;
    *found = true;
    return {ids_.data() + slot.ids_begin, slot.ids_count};
  }
  *found = false;
  return {};
}

void WordCache::insert(std::string_view word, uint64_t hash, std::span<const uint32_t> ids) {
  if (word.empty() || word.size() > kMaxWordBytes || used_ >= kMaxWords) return;
  // A character is at most 4 bytes of fallback, so the ids of a word that fits always fit as well.
  if (2 * ++used_ > slots_.size()) grow();
  slots_[free_slot(hash)] = {hash, static_cast<uint32_t>(words_.size()), static_cast<uint32_t>(ids_.size()),
                             static_cast<uint16_t>(ids.size()), static_cast<uint16_t>(word.size())};
  words_.append(word);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
}

size_t WordCache::free_slot(uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].word_bytes != 0) i = (i + 1) & mask;
  return i;
}

void WordCache::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.word_bytes != 0) slots_[free_slot(slot.hash)] = slot;
  }
}

}  // namespace ptq
