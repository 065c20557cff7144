// One tensor of a pickle. See torch_objects.h for the forms it comes in.
#pragma once

#include <optional>

#include "checkpoint/torch_objects.h"

namespace ptq {

// True if the node is one of the forms of a tensor.
bool is_torch_tensor(const PickleGraph& graph, NodeId node);
// True if the node would be a tensor of a kind that is not read (sparse, quantized, without data).
bool is_unsupported_tensor(const PickleGraph& graph, NodeId node);
// Reads a tensor. `where` names it. Throws Error. REQUIRES: is_torch_tensor().
StoredTensor torch_tensor(const PickleGraph& graph, NodeId node, const std::string& where,
                          const StorageFinder& find_storage);

}  // namespace ptq
