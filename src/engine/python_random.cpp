// The generator is MT19937 (Matsumoto and Nishimura, 1998). std::mt19937 is the same, but cannot be seeded by
// several words as Python seeds it.
#include "engine/python_random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <set>

namespace ptq {

// init_by_array() of the reference implementation, by the words of the seed.
PythonRandom::PythonRandom(uint64_t seed) {
  std::vector<uint32_t> key = {static_cast<uint32_t>(seed)};
  if (seed >> 32 != 0) key.push_back(static_cast<uint32_t>(seed >> 32));
  state_[0] = 19650218;
  for (uint32_t i = 1; i < kWords; ++i) state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  size_t i = 1;
  const auto step = [&] {
    if (++i < kWords) return;
    state_[0] = state_[kWords - 1];
    i = 1;
  };
  const auto last = [&] { return state_[i - 1] ^ (state_[i - 1] >> 30); };
  for (size_t k = 0; k < kWords; ++k, step()) {
    const size_t j = k % key.size();
    state_[i] = (state_[i] ^ (last() * 1664525U)) + key[j] + static_cast<uint32_t>(j);
  }
  for (size_t k = 1; k < kWords; ++k, step())
    state_[i] = (state_[i] ^ (last() * 1566083941U)) - static_cast<uint32_t>(i);
  state_[0] = 0x80000000U;
}

uint32_t PythonRandom::next() {
  constexpr size_t kShift = 397;
  if (used_ == kWords) {
    for (size_t i = 0; i < kWords; ++i) {
      const uint32_t y = (state_[i] & 0x80000000U) | (state_[(i + 1) % kWords] & 0x7FFFFFFFU);
      state_[i] = state_[(i + kShift) % kWords] ^ (y >> 1) ^ ((y & 1U) != 0 ? 0x9908B0DFU : 0);
    }
    used_ = 0;
  }
  uint32_t y = state_[used_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9D2C5680U;
  y ^= (y << 15) & 0xEFC60000U;
  return y ^ (y >> 18);
}

int64_t PythonRandom::below(int64_t bound) {
  const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(bound)));
  while (true) {
    const int64_t drawn = next() >> (32 - bits);
    if (drawn < bound) return drawn;
  }
}

// A small population is drawn from as from a shrinking list, of a large one the indices taken are remembered.
// Which of them is part of what is drawn.
std::vector<int64_t> PythonRandom::sample(int64_t population, int64_t count) {
  double list_size = 21;
  if (count > 5) list_size += std::pow(4, std::ceil(std::log(count * 3) / std::log(4)));
  std::vector<int64_t> drawn;
  if (static_cast<double>(population) <= list_size) {
    std::vector<int64_t> pool(static_cast<size_t>(population));
    std::iota(pool.begin(), pool.end(), 0);
    while (static_cast<int64_t>(drawn.size()) < count) {
      const auto index = static_cast<size_t>(below(static_cast<int64_t>(pool.size())));
      drawn.push_back(pool[index]);
      pool[index] = pool.back();
      pool.pop_back();
    }
    return drawn;
  }
  std::set<int64_t> taken;
  while (static_cast<int64_t>(drawn.size()) < count) {
    const int64_t index = below(population);
    if (taken.insert(index).second) drawn.push_back(index);
  }
  return drawn;
}

}  // namespace ptq
