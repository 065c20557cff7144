// The machine behind parse_pickle(): a cursor over the program, a stack with marks, a memo, and the graph it
// builds.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/bytes.h"
#include "checkpoint/pickle.h"

namespace ptq {

// The operations of protocols 2 to 5; a digit is the length of the argument's length, or of the number, in
// bytes.
enum class Op : uint8_t {
  // a value
  kNone = 'N',
  kTrue = 0x88,
  kFalse = 0x89,
  kInt4 = 'J',
  kInt1 = 'K',
  kInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kFloat8 = 'G',
  // text and bytes; kString is what Python 2 writes
  kUnicode4 = 'X',
  kUnicode1 = 0x8c,
  kUnicode8 = 0x8d,
  kString4 = 'T',
  kString1 = 'U',
  kBytes4 = 'B',
  kBytes1 = 'C',
  kBytes8 = 0x8e,
  kByteArray8 = 0x96,
  // containers
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kEmptySet = 0x8f,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kTuple = 't',
  kList = 'l',
  kDict = 'd',
  kFrozenSet = 0x91,
  kAppend = 'a',
  kAppends = 'e',
  kAddItems = 0x90,
  kSetItem = 's',
  kSetItems = 'u',
  // the stack and the memo
  kMark = '(',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kPut1 = 'q',
  kPut4 = 'r',
  kMemoize = 0x94,
  kGet1 = 'h',
  kGet4 = 'j',
  kFrame = 0x95,
  // objects
  kGlobal = 'c',
  kStackGlobal = 0x93,
  kReduce = 'R',
  kNewObject = 0x81,
  kNewObjectEx = 0x92,
  kBuild = 'b',
  kPersistentId = 'Q',
  // the program
  kProto = 0x80,
  kStop = '.',
};

class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& where);
  PickleGraph run();

 private:
  // Each runs one opcode of its group; false if the opcode is of another group.
  bool run_scalar(Op opcode);
  bool run_text(Op opcode);
  bool run_container(Op opcode);
  bool run_items(Op opcode);
  bool run_stack(Op opcode);
  bool run_object(Op opcode);

  [[noreturn]] void fail(const std::string& what) const;
  PickleNode& node(NodeId id) { return graph_.nodes_[id]; }
  NodeId add(PickleNode node);
  void push(NodeId id);
  void push_int(int64_t value);
  void push_big_int(uint64_t length);
  void push_text(NodeKind kind, uint64_t length);
  NodeId add_text(NodeKind kind, std::span<const std::byte> text);
  NodeId pop();
  NodeId top() const;
  size_t pop_mark();
  // Where the last `count` values begin, above the last mark.
  size_t last(size_t count) const;
  void append(NodeId container, NodeId item);
  // Moves the stack from `begin` up into a container.
  void move_items(size_t begin, NodeId container);
  void push_container(NodeKind kind, size_t begin);
  void extend(size_t begin, bool pairs);
  void remember(uint64_t key);
  void recall(uint64_t key);

  PickleGraph graph_;
  ByteCursor cursor_;
  std::vector<NodeId> stack_;
  std::vector<size_t> marks_;
  std::vector<NodeId> memo_;  // indexed by key: writers count up from 0
  size_t memoized_ = 0;
  std::span<const std::byte> bytes_;
  size_t opcode_at_ = 0;
};

}  // namespace ptq
