// What PyTorch means by the objects of a pickle: storages, tensors, state dicts, modules.
//
// Meaning is given to an allow-list of names only; everything else stays an inert node. A tensor is
//   torch._utils._rebuild_tensor(storage, offset, size, stride)
//   torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
//   torch._utils._rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])
// possibly inside _rebuild_parameter(tensor, ...), _rebuild_parameter_with_state(tensor, ...) or
// _rebuild_from_type_v2(function, type, arguments, state). A storage is a persistent identifier
//   ("storage", type, key, location, number of elements[, view]).
// A module is an object whose state has _parameters, _buffers and _modules.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/pickle.h"
#include "checkpoint/tensor_file.h"

namespace ptq {

struct TorchStorage {
  std::string key;
  DType dtype = DType::kU8;  // kU8 for an untyped one
  uint64_t bytes = 0;
  int64_t view_offset = 0;  // legacy files: elements before the view that the tensor's offset counts from
};

// Reads a persistent identifier; nullopt if it is not one of a storage. Throws Error, whose place is `where`,
// on a malformed one or on an element type that we do not have.
std::optional<TorchStorage> torch_storage(const PickleGraph& graph, NodeId persistent,
                                          const std::string& where);

struct NamedNode {
  std::string name;
  NodeId node;
};

struct TorchState {
  std::vector<NamedNode> tensors;
  bool is_entry = false;  // of a training checkpoint, beside others
};

// Finds the model's tensors. `state_key` is a path of nested keys joined by dots; if it is empty, the one
// dict of tensors among the top level and its entries "model", "state_dict", "model_state_dict" and "module"
// is taken. A top level whose tensors have no dot in their names (the states of random generators) does not
// count beside an entry whose tensors have one. Throws Error if there is none or more than one. Adds what the
// user should know to `notes`: what else the file holds, too.
TorchState torch_state(const PickleGraph& graph, const std::string& state_key,
                       std::vector<std::string>& notes);

// Returns the index of a storage in the TensorFile.
using StorageFinder = std::function<uint32_t(const TorchStorage&)>;

// Adds every tensor of torch_state() to `file` and finishes it. Throws Error.
void add_torch_tensors(const PickleGraph& graph, const std::string& state_key,
                       const StorageFinder& find_storage, TensorFile& file);

}  // namespace ptq
