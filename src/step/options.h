// Reading the options of steps.
#pragma once

#include <string>

#include "ptq/base/choice.h"
#include "ptq/base/error.h"
#include "ptq/base/json.h"

namespace ptq {

// Tokens to gather at a site.
inline int64_t samples_option(JsonFields& options, int64_t fallback) {
  const int64_t samples = options.integer("samples", fallback);
  if (samples < 1 || samples > (1 << 20)) {
    throw usage_error(options.path() + ".samples", std::to_string(samples) + " is outside 1 to 1048576");
  }
  return samples;
}

inline int bits_option(JsonFields& options, int fallback, int low, int high) {
  const int64_t bits = options.integer("bits", fallback);
  if (bits < low || bits > high) {
    throw usage_error(options.path() + ".bits", std::to_string(bits) + " bits; " + std::to_string(low) +
                                                    " to " + std::to_string(high) + " are supported");
  }
  return static_cast<int>(bits);
}

}  // namespace ptq
