// Remembers the token ids of words. Text repeats itself: in English prose nine words of ten have been seen
// before.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// A hash table with open addressing whose keys and values lie in two arrays. It stops taking words when it is
// full; the frequent ones came first. Not thread safe.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 64;

  static uint64_t hash(std::string_view word);

  // The ids of `word`; `found` tells an empty list from none. Valid until the next insert().
  std::span<const uint32_t> find(std::string_view word, uint64_t hash, bool* found) const;
  // REQUIRES: `word` is not in the cache. Words longer than kMaxWordBytes are not taken.
  void insert(std::string_view word, uint64_t hash, std::span<const uint32_t> ids);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t word_begin = 0;
    uint32_t ids_begin = 0;
    uint16_t ids_count = 0;
    uint16_t word_bytes = 0;  // 0: the slot is free
  };

  void grow();
  size_t free_slot(uint64_t hash) const;

  std::vector<Slot> slots_ = std::vector<Slot>(1024);
  size_t used_ = 0;
  std::string words_;
  std::vector<uint32_t> ids_;
};

}  // namespace ptq
