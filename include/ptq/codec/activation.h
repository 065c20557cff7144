// Activations as integer codes.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace ptq {

using at::Tensor;

// How activations were rounded.
struct ActivationScheme {
  int bits = 8;            // 2 to 8
  bool symmetric = true;   // false: a zero point beside every scale
  bool per_token = false;  // a scale for each token; else one for all
  int64_t group = 0;       // per token: one for so many consecutive channels; 0: for all channels

  // Codes are int8 within [low, high] if the scheme is symmetric, else uint8 from 0 to high.
  int64_t low() const { return symmetric ? -(int64_t{1} << (bits - 1)) : 0; }
  int64_t high() const { return symmetric ? (int64_t{1} << (bits - 1)) - 1 : (int64_t{1} << bits) - 1; }
  // The largest |code - zero point|.
  int64_t bound() const { return symmetric ? -low() : high(); }

  bool operator==(const ActivationScheme&) const = default;
};

// What flows from a Site into the linears that read it: float values, or codes.
struct Activation {
  Tensor values = {};  // [batch, length, channels] float32; undefined if the activation is in codes
  Tensor codes = {};   // [batch, length, channels] int8 or uint8
  Tensor scale = {};   // float32: [1] or [channels] (static), [batch, length, 1], or [batch, length,
                       // channels / group, 1]. NaN where codes stand for a NaN
  Tensor zero = {};    // uint8, the shape of `scale`; undefined if the scheme is symmetric
  ActivationScheme scheme = {};

  bool in_codes() const { return codes.defined(); }
  at::IntArrayRef sizes() const { return in_codes() ? codes.sizes() : values.sizes(); }
  // code - zero point, float32, in the shape of the codes: the integers that a product is made of. |value| <=
  // scheme.bound(). REQUIRES: in_codes().
  Tensor centered() const;
  // The float32 values that the codes stand for; `values` itself if it is not in codes.
  Tensor dequantize() const;
  // The tokens `index` [n] int64 of all batch * length, as [1, n, channels].
  Activation tokens(const Tensor& index) const;
};

}  // namespace ptq
