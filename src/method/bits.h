// The bits a method was asked for.
#pragma once

#include <string>

#include "ptq/base/json.h"

namespace ptq {

struct Bits {
  int weights = 8;
  int activations = 16;  // 16: float
};

// "w4a8". REQUIRES: one of the method's own bits.
inline Bits parse_bits(const std::string& text) {
  const size_t a = text.find('a');
  return {std::stoi(text.substr(1, a - 1)), std::stoi(text.substr(a + 1))};
}

// Inputs of linears, and queries, keys and values where the model has them: dynamic, a scale per token.
inline Json dynamic_activations(int bits, bool symmetric) {
  return {{"scales", "dynamic"},
          {"bits", bits},
          {"symmetric", symmetric},
          {"sites", Json::array({"linear_inputs", "attention"})}};
}

}  // namespace ptq
