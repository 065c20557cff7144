// Opens whatever the user names as a runnable model: a float checkpoint, or an artifact of ours.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/model.h"

namespace ptq {

// Members are declared in the order of their dependence.
struct OpenModel {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<WeightSource> source;
  const ArchitectureEntry* architecture = nullptr;
  std::unique_ptr<Model> model;
  bool quantized = false;  // an artifact of ours, or the quantized form of another program
  // A tokenizer.json made from what the file of the weights holds, "" if that is none; null where tokenizers
  // lie beside the weights. Throws Error for a tokenizer that is not known. May be called after a move.
  std::function<std::string()> tokenizer = {};
};

// True if the configuration says that the checkpoint is an artifact of ours. Throws Error for the quantized
// form of another program, which is neither a float checkpoint nor ours.
bool is_artifact(const Checkpoint& checkpoint);

// The sources of a checkpoint that is already open: WeightSource for floats or for codes.
std::unique_ptr<WeightSource> make_source(const Checkpoint& checkpoint, at::Device device);

// Throws Error. Reads headers, the embedding and the head; blocks are read when asked for. On the meta device
// weights and corrections have schemes and shapes but no values; sites are whole.
OpenModel open_model(std::unique_ptr<Checkpoint> checkpoint, at::Device device);
OpenModel open_model(const std::string& path, const CheckpointOptions& options, at::Device device);

// What opens a format puts its model together so. `on_load` gives the blocks what their weights alone do not
// say: quantizers and transforms of sites, corrections of linears. Throws Error if the architecture is not
// known, or if tensors of a float model would not be read.
OpenModel assemble_model(std::unique_ptr<Checkpoint> checkpoint, std::unique_ptr<WeightSource> source,
                         bool quantized, const Model::OnLoad& on_load = {});

}  // namespace ptq
