// The quantization_config of compressed-tensors: what each linear is stored in, by its name.
//
//   {"quant_method": "compressed-tensors", "format":, "quantization_status": "compressed", "ignore": [NAME],
//    "config_groups": {GROUP: {"targets": [NAME], "weights": {...}, "input_activations": {...} | null,
//                              "output_activations": null, "format":}}, "dequantize": true}
// A NAME is a linear's full name, "re:" and a regular expression that its beginning matches, or the class
// "Linear". A linear that is ignored, or in no group, is stored in float. What is read here is integers; the
// formats are
//   int-quantized   X.weight I8 [out, in]
//   pack-quantized  X.weight_packed I32, see pack_words; X.weight_shape I64 [2]
// with X.weight_scale [1], [out, 1] or [out, in / group]; X.weight_zero_point, I8 in the scale's shape or
// packed along out; X.input_scale [1] where inputs have one scale for all tokens.
// Source: compressed_tensors 0.20.1, quantization/quant_args.py, quant_config.py, utils/match.py.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/codec/activation.h"
#include "ptq/codec/scheme.h"
#include "ptq/tokenizer/name_expression.h"

namespace ptq {

inline constexpr const char* kCompressedTensors = "compressed-tensors";

struct LinearScheme {
  WeightScheme weights;                    // integers; groups fill the rows
  std::optional<ActivationScheme> inputs;  // none: floats
  bool packed = false;                     // pack-quantized; else int-quantized

  const char* format() const { return packed ? "pack-quantized" : "int-quantized"; }
  bool operator==(const LinearScheme&) const = default;
};

// A config group. `targets` as described above.
Json group_json(const LinearScheme& scheme, const std::vector<std::string>& targets);

class CompressedTensorsConfig {
 public:
  // Throws Error, naming `where` and the key, for what is malformed, not known, or not computed by this
  // program: other number types and formats, groups ordered by activation, transforms, quantized caches.
  CompressedTensorsConfig(const Json& quantization_config, const std::string& where);

  // How the linear of that name is stored; null: in float. An exact name goes before an expression, and that
  // before the class. Throws Error if two groups claim it alike.
  const LinearScheme* scheme_of(const std::string& name) const;

 private:
  // A list of names, expressions and classes.
  struct Names {
    std::set<std::string> exact;
    std::vector<NameExpression> expressions;
    bool all_linears = false;

    // 0: none of them; 1: the class; 2: an expression; 3: the name itself.
    int rank(const std::string& name) const;
  };
  struct Group {
    std::string name;
    Names targets;
    LinearScheme scheme;
  };
  static Names read_names(const Json& json, const std::string& where);
  static Group read_group(const Json& json, const std::string& name, const std::string& where,
                          const std::string& top_format);

  std::string where_;
  Names ignore_;
  std::vector<Group> groups_;
};

}  // namespace ptq
