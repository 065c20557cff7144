// What becomes of each linear of an artifact in compressed-tensors. Known from schemes, sites and shapes
// alone, so that what cannot be held is refused before any work.
//
//   integers, no rounded input                       pack-quantized
//   8 bits, a scale a row or tensor, inputs in 8     int-quantized
//   other integers with rounded inputs               pack-quantized with input_activations
//   MXINT                                            its groups of integers, whose scales are powers of two
//   a scale for the whole tensor, packed             that scale for every row
//   a last group that is shorter, several sizes of   groups of the common divisor, with repeated scales
//   groups where transformers wants one
// A layer that bears no few bits (dt_proj of a Mamba), and one that was not rounded, stay in float: what
// servers would make of them is not known well enough. A Hadamard rotation that is applied online is taken
// out of weights of 8 bits, which are rounded again; a static scale of such inputs is one of rotated values,
// so that they get a scale for each token.
#pragma once

#include <map>
#include <string>

#include "export/compressed_tensors_config.h"
#include "export/lora_adapter.h"
#include "ptq/artifact/open_model.h"

namespace ptq {

struct LinearPlan {
  std::optional<LinearScheme> scheme;  // none: float
  bool rotated = false;                // the weight is turned back and rounded again
  int64_t columns = 0;                 // of the weight
};

struct CompressedTensorsPlan {
  std::map<std::string, LinearPlan> linears;       // by name
  CorrectedModules corrected;                      // whose corrections an adapter holds
  std::map<std::string, int64_t> unrounded_sites;  // name of a site, and how often it is rounded no more
  std::vector<std::string> outside;                // linears outside of the blocks
  bool dequantize = false;                         // transformers must make floats of it when it loads

  // Each once.
  std::vector<LinearScheme> schemes() const;
  // Names are expressions: one for all linears of the same last part where that fits, and without what their
  // names begin with, which servers change.
  Json quantization_config() const;
};

// Throws Error, naming the layer and an alternative, for what compressed-tensors cannot hold: NF4,
// corrections of layers beside which peft puts none, other online transforms, groups that do not divide a
// row, zero points of weights where inputs are rounded to 8 bits, clipped tokens, and layers of one input,
// which servers fuse, under several schemes. The artifact may lie on the meta device.
CompressedTensorsPlan plan_compressed_tensors(const OpenModel& artifact);

}  // namespace ptq
