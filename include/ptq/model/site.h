// A named activation point of a block: where it is measured, transformed and quantized.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "ptq/model/hadamard.h"

namespace ptq {

// What flows from a Site into the linears that read it: float values, or integer codes with their scale.
struct Activation {
  Tensor values;  // [batch, length, channels] float32; integers from low to high if `scale` is defined
  Tensor scale;   // undefined: float. Else [1], or [batch, length, 1] (one per token)

  bool is_float() const { return !scale.defined(); }
  // The float32 values that the codes stand for.
  Tensor dequantize() const { return is_float() ? values : values * scale; }
};

// How a site rounds. Symmetric, one scale for the whole site (static) or one per token (dynamic).
struct ActivationQuantizer {
  enum class Kind { kNone, kStatic, kDynamic };
  Kind kind = Kind::kNone;
  int bits = 8;
  Tensor scale;  // kStatic: [1]

  // "none", "static", "dynamic": as artifacts and reports spell it.
  const char* kind_name() const;

  static ActivationQuantizer fixed(double scale, int bits);  // static
  // Static, with the scale under which |x| = amax is the highest code. amax is at least 1e-5, the authors'
  // floor.
  static ActivationQuantizer covering(double amax, int bits);
  static ActivationQuantizer per_token(int bits);  // dynamic
  // Codes of x [..., channels] with their scale, or x itself if the kind is kNone.
  // Static codes are clamp(round_half_even(x / scale)). A dynamic scale is max |x| of the token / high, at
  // least 1e-5 / high.
  Activation operator()(const Tensor& x) const;
};

// Sees the values of a site while calibrating: after its transform, before its quantizer.
class Observer {
 public:
  virtual ~Observer() = default;
  // x [batch, length, channels]; each row of the batch is one calibration sample, in order.
  virtual void observe(const Tensor& x) = 0;
};

struct Site {
  std::string name;                   // "ssm.x"; S of the artifact is "<block prefix>.sites.<name>"
  std::string kind;                   // what flows here: "linear_input" | "ssm_input" | "internal"
  std::optional<Hadamard> transform;  // applied online to what arrives
  Tensor smooth;  // [channels], what this site's channels were divided by; already folded into its producers
  ActivationQuantizer quantizer;
  Observer* observer = nullptr;  // not owned

  Activation operator()(const Tensor& x) const;
};

}  // namespace ptq
