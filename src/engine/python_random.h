// Python's random.Random: seeded by a number, it draws the same. Few-shot examples are drawn by it elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace ptq {

class PythonRandom {
 public:
  // random.Random(seed).
  explicit PythonRandom(uint64_t seed);

  // random.sample(range(population), count). REQUIRES: 0 <= count <= population < 2^32.
  std::vector<int64_t> sample(int64_t population, int64_t count);

 private:
  static constexpr size_t kWords = 624;

  uint32_t next();
  int64_t below(int64_t bound);

  std::array<uint32_t, kWords> state_{};
  size_t used_ = kWords;
};

}  // namespace ptq
