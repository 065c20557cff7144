// A pickle machine that builds a graph of inert nodes and runs nothing.
//
// Goals: the object graph of any pickle of protocols 2 to 5, however hostile: every length is checked against
// the bytes that are left before it is used, nodes, references, stack and memo are capped, and there is no
// recursion, because nodes refer to each other by index and die with one vector. Non-goals: protocols 0 and 1
// (text), out-of-band buffers, the meaning of what is named; GLOBAL, REDUCE, NEWOBJ and BUILD record a name,
// arguments and a state, and torch_objects.h decides which of them mean a tensor.
//
// Format: a program for a stack machine. An opcode byte pushes a value (its argument follows, little-endian),
// joins values since the last MARK to a container, stores to or loads from a memo, or wraps the top of the
// stack; '.' ends it and the top of the stack is the result.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

using NodeId = uint32_t;
constexpr NodeId kNoNode = UINT32_MAX;

// A state dict takes about 40 operations and 15 nodes a tensor.
constexpr size_t kMaxPickleBytes = size_t{128} << 20;
constexpr size_t kMaxPickleOperations = 20'000'000;
constexpr size_t kMaxPickleNodes = 3'000'000;
constexpr size_t kMaxPickleItems = 6'000'000;
constexpr size_t kMaxPickleStack = 1'000'000;
constexpr size_t kMaxPickleMemo = 3'000'000;

enum class NodeKind : uint8_t {
  kNone,
  kBool,
  kInt,     // fits int64
  kBigInt,  // bytes() are its little-endian two's complement
  kFloat,
  kText,        // text()
  kBytes,       // bytes()
  kGlobal,      // a: module, b: name (text nodes)
  kTuple,       // items()
  kList,        // items()
  kSet,         // items()
  kDict,        // items() are key, value, key, value, ...
  kObject,      // a: what was called, b: its arguments, state: of BUILD; items() as a list or a dict
  kPersistent,  // a: the identifier
};

struct PickleNode {
  NodeKind kind = NodeKind::kNone;
  bool has_pairs = false;  // of an object: items() are pairs
  uint32_t a = kNoNode;
  uint32_t b = kNoNode;
  uint32_t state = kNoNode;
  uint32_t first = kNoNode;  // chain of items
  uint32_t last = kNoNode;
  int64_t value = 0;  // bool, int; of text and bytes the offset, whose length is `a`
};

class PickleGraph {
 public:
  const PickleNode& at(NodeId id) const { return nodes_[id]; }
  NodeKind kind(NodeId id) const { return nodes_[id].kind; }
  size_t size() const { return nodes_.size(); }
  NodeId root() const { return root_; }
  // Where the pickle ended.
  size_t end() const { return end_; }

  // Of text, and of bytes. The view lives as long as what was parsed.
  std::string_view text(NodeId id) const;
  std::span<const std::byte> bytes(NodeId id) const;
  // Of a global; "" of anything else.
  std::string_view global_module(NodeId id) const;
  std::string_view global_name(NodeId id) const;
  // The value of a kInt. Throws Error for anything else.
  int64_t integer(NodeId id) const;
  const std::string& where() const { return where_; }

  // Walks the items of a container: for (uint32_t i = first(id); i != kNoNode; i = next(i)) item(i).
  uint32_t first(NodeId id) const { return nodes_[id].first; }
  uint32_t next(uint32_t item) const { return items_[item].next; }
  NodeId item(uint32_t item) const { return items_[item].node; }
  // The first `limit` items.
  std::vector<NodeId> items(NodeId id, size_t limit) const;

 private:
  friend class PickleMachine;
  struct Item {
    NodeId node;
    uint32_t next;
  };
  std::span<const std::byte> bytes_;
  std::string where_;
  std::deque<PickleNode> nodes_;  // a deque does not copy all of itself when it grows
  std::deque<Item> items_;
  NodeId root_ = kNoNode;
  size_t end_ = 0;
};

// Parses the pickle at the start of `bytes`, which must outlive the graph; more may follow. Throws Error,
// whose place is `where`.
PickleGraph parse_pickle(std::span<const std::byte> bytes, const std::string& where);

}  // namespace ptq
