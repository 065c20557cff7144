// The merges of a BPE model: which two neighbouring tokens join, in which order of preference, into which.
#pragma once

#include <cstdint>
#include <vector>

namespace ptq {

// A merge as one number: the rank above, the id of the result below, so that the smaller one is done first.
using Merge = uint64_t;
constexpr Merge kNoMerge = ~Merge{0};

inline Merge make_merge(uint32_t rank, uint32_t result) {
  return static_cast<Merge>(rank) << 32 | result;
}
inline uint32_t merge_rank(Merge merge) {
  return static_cast<uint32_t>(merge >> 32);
}
inline uint32_t merge_result(Merge merge) {
  return static_cast<uint32_t>(merge);
}

// A hash table with open addressing: it is asked twice for every merge that is done.
class MergeTable {
 public:
  // Room for `count` pairs. REQUIRES: called once, before set().
  void reserve(size_t count);
  // The last of two merges of one pair counts.
  void set(uint32_t left, uint32_t right, Merge merge);

  Merge find(uint32_t left, uint32_t right) const {
    const uint64_t pair = pair_of(left, right);
    for (size_t i = start(pair);; i = (i + 1) & mask_) {
      if (slots_[i].pair == pair) return slots_[i].merge;
      if (slots_[i].merge == kNoMerge) return kNoMerge;
    }
  }

 private:
  struct Slot {
    uint64_t pair = 0;
    Merge merge = kNoMerge;  // kNoMerge: the slot is free
  };

  static uint64_t pair_of(uint32_t left, uint32_t right) { return static_cast<uint64_t>(left) << 32 | right; }
  size_t start(uint64_t pair) const {
    const uint64_t mixed = pair * 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(mixed ^ mixed >> 32) & mask_;
  }

  std::vector<Slot> slots_ = std::vector<Slot>(2);
  size_t mask_ = 1;
};

}  // namespace ptq
