// Keys or values of the tokens that an attention has seen, and one query that attends to them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "ptq/codec/activation.h"

namespace ptq {

namespace kernels {
struct StoredRows;
}

// How keys and values that no site rounds are held.
enum class CacheFloats {
  kFloat32,  // as they are
  kFloat16,  // in half the memory, on the CPU
};

// A row of head_dim values for each sequence, head and token: in the codes to which they are rounded, 4 bits
// and fewer in half a byte, or in floats if they are not. On other devices than the CPU all are float32.
class CachedRows {
 public:
  CachedRows() = default;
  // For rows that come rounded by `scheme`, or in floats.
  CachedRows(int64_t batch, int64_t heads, int64_t head_dim, const std::optional<ActivationScheme>& scheme,
             at::Device device, CacheFloats floats);

  // Puts rows behind those held: x [batch, length, heads * head_dim], rounded as the constructor was told.
  void append(const Activation& x);
  // Keeps the last `count` tokens. No-op if there are no more.
  void keep_last(int64_t count);

  int64_t heads() const { return heads_; }
  int64_t head_dim() const { return head_dim_; }
  // Tokens held.
  int64_t size() const { return kept_; }
  // What is held, [batch, heads, size(), head_dim] float32.
  Tensor values() const;
  // Resident bytes, those for tokens to come included.
  int64_t bytes() const;
  // Whether values() is what is held, and not widened from it.
  bool in_float32() const { return data_.scalar_type() == at::kFloat; }
  // The rows of one sequence and head. REQUIRES: not in_float32().
  kernels::StoredRows rows(int64_t sequence, int64_t head) const;

 private:
  void make_room(int64_t more);
  void place_codes(const Activation& x, int64_t length);
  void place_halves_of_one(const Tensor& x);

  int64_t batch_ = 0, heads_ = 0, head_dim_ = 0;
  std::optional<ActivationScheme> scheme_;
  bool as_codes_ = false;
  Tensor data_;        // [batch, heads, room, bytes or values of a row]
  Tensor scale_;       // of codes: [batch, heads, room] float32
  Tensor zero_;        // of codes with zero points: the same, int8
  int64_t begin_ = 0;  // of what is held
  int64_t kept_ = 0;
};

// The outputs of one query a sequence that sees all tokens held: q [batch, 1, heads * head_dim] float32, keys
// and values of the same number of heads, which divides the query's: query head h reads head
// h / (heads / kv_heads). Returns the shape of q. REQUIRES: none is held as float32; at least one token.
Tensor attend_to_cached(const Tensor& q, const CachedRows& keys, const CachedRows& values);

}  // namespace ptq
