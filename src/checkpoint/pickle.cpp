#include "checkpoint/pickle.h"

#include "checkpoint/bytes.h"
#include "checkpoint/pickle_machine.h"
#include "ptq/base/error.h"

namespace ptq {

std::string_view PickleGraph::text(NodeId id) const {
  return nodes_[id].kind == NodeKind::kText ? as_text(bytes(id)) : std::string_view();
}

std::span<const std::byte> PickleGraph::bytes(NodeId id) const {
  const PickleNode& node = nodes_[id];
  return bytes_.subspan(static_cast<size_t>(node.value), node.a);
}

std::string_view PickleGraph::global_module(NodeId id) const {
  return nodes_[id].kind == NodeKind::kGlobal ? text(nodes_[id].a) : std::string_view();
}

std::string_view PickleGraph::global_name(NodeId id) const {
  return nodes_[id].kind == NodeKind::kGlobal ? text(nodes_[id].b) : std::string_view();
}

int64_t PickleGraph::integer(NodeId id) const {
  if (nodes_[id].kind != NodeKind::kInt)
    throw Error(where_, "the pickle has something else where a number is due");
  return nodes_[id].value;
}

std::vector<NodeId> PickleGraph::items(NodeId id, size_t limit) const {
  std::vector<NodeId> found;
  for (uint32_t i = first(id); i != kNoNode && found.size() < limit; i = next(i)) found.push_back(item(i));
  return found;
}

PickleGraph parse_pickle(std::span<const std::byte> bytes, const std::string& where) {
  return PickleMachine(bytes, where).run();
}

}  // namespace ptq
