// The bits a method was asked for, and the steps that several methods share.
#pragma once

#include <string>
#include <vector>

#include "ptq/method/recipe.h"

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

// Weights per channel and activations per token; with zero points below 8 bits, where half the codes would be
// lost without.
inline std::vector<StepConfig> dynamic_rounding(const Bits& bits) {
  const bool symmetric_weights = bits.weights == 8;
  std::vector<StepConfig> steps = {
      {"rtn", {{"bits", bits.weights}, {"granularity", "channel"}, {"symmetric", symmetric_weights}}}};
  if (bits.activations < 16) {
    steps.push_back({"activations", dynamic_activations(bits.activations, bits.activations == 8)});
  }
  return steps;
}

}  // namespace ptq
