// One block of each ggml type. Layouts are in the .cpp files; `x` are float32 values, `to` and `from` the
// bytes of a block.
#pragma once

#include <c10/util/Half.h>

#include <cstdint>
#include <cstring>

namespace ptq::ggml {

inline constexpr int kBlock = 32;        // values of a plain block
inline constexpr int kSuperBlock = 256;  // values of a block of K-quants

inline float load_half(const uint8_t* from) {
  c10::Half half;
  std::memcpy(&half, from, sizeof(half));
  return half;
}
inline void store_half(float value, uint8_t* to) {
  const c10::Half half(value);
  std::memcpy(to, &half, sizeof(half));
}
inline float as_half(float value) {
  return c10::Half(value);
}

void pack_q4_0(const float* x, uint8_t* to);
void pack_q4_1(const float* x, uint8_t* to);
void pack_q5_0(const float* x, uint8_t* to);
void pack_q5_1(const float* x, uint8_t* to);
void pack_q8_0(const float* x, uint8_t* to);
void pack_iq4_nl(const float* x, uint8_t* to);
void pack_q4_k(const float* x, uint8_t* to);
void pack_q5_k(const float* x, uint8_t* to);
void pack_q6_k(const float* x, uint8_t* to);

void unpack_q4_0(const uint8_t* from, float* x);
void unpack_q4_1(const uint8_t* from, float* x);
void unpack_q5_0(const uint8_t* from, float* x);
void unpack_q5_1(const uint8_t* from, float* x);
void unpack_q8_0(const uint8_t* from, float* x);
void unpack_iq4_nl(const uint8_t* from, float* x);
void unpack_q4_k(const uint8_t* from, float* x);
void unpack_q5_k(const uint8_t* from, float* x);
void unpack_q6_k(const uint8_t* from, float* x);

// 32 codes of 4 bits: byte j holds code j in its low half and code j + 16 in its high one.
void place_nibbles(const uint8_t* codes, uint8_t* to);
void take_nibbles(const uint8_t* from, uint8_t* codes);

}  // namespace ptq::ggml
