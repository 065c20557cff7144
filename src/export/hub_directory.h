// A model as a directory in Hugging Face's layout, which transformers and servers load: config.json, weights
// in safetensors, the files of the tokenizer and SHA256SUMS. What writes such a format says how linears are
// stored.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "export/weights_plan.h"
#include "ptq/artifact/safetensors_spool.h"
#include "ptq/export/formats.h"

namespace ptq {

// What the values of a model are computed in, which servers make of scales: as the configuration says, else
// as the embedding is stored.
at::ScalarType model_dtype(Model& model);
// "float16", as configurations spell it.
const char* dtype_text(at::ScalarType dtype);
// The dtype of an option's value: "f32", "f16" or "bf16"; none for another.
std::optional<at::ScalarType> dtype_of_option(const std::string& value);

struct HubForm {
  // Adds a linear's tensors in codes and returns true; false: its weight is stored in float.
  std::function<bool(Block&, const Linear&, SafetensorsSpool&)> add_codes;
  // What the weight of a linear in float stands for [out, in], float32; null: its own values.
  std::function<Tensor(Block&, const Linear&)> values;
  // The dtype of all floats. None: as they are stored; what the artifact has in codes in the model's dtype if
  // it is large and that holds it, else in float32.
  std::optional<at::ScalarType> floats;
  Json quantization_config;  // null: none
  // Where the corrections of `corrected.beside` go, as an adapter that belongs to the directory. "": nowhere
  std::string adapter;
  CorrectedModules corrected;
};

// Writes the directory `output`, and the adapter, each whole or not at all: nothing is at either path.
// Returns the names of the weights that the artifact has in codes, and the directory in float. Memory: a
// block at a time. Throws Error for values that a dtype does not hold.
std::vector<std::string> write_hub_directory(const OpenModel& artifact, const std::string& output,
                                             const HubForm& form);

// Where corrections of a base in codes go: DIR-adapter; "" if there are none.
std::string adapter_path(const CorrectedModules& corrected, const std::string& output);

// A line for people about such an adapter, and one about what write_hub_directory() returned; "" if there is
// nothing to say.
std::string adapter_text(const CorrectedModules& corrected, const std::string& output);
std::string in_float_text(const std::vector<std::string>& names, const std::string& format);

// Writes what plan_weights() planned. `add_codes` adds the tensors of a linear in codes.
ExportResult write_weights(const OpenModel& artifact, const std::string& output, const WeightsPlan& plan,
                           const char* format, const Json& quantization_config,
                           const std::function<void(const Linear&, SafetensorsSpool&)>& add_codes);

}  // namespace ptq
