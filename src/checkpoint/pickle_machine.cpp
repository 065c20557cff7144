#include "checkpoint/pickle_machine.h"

#include <algorithm>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr NodeId kNone = 0;
constexpr NodeId kFalse = 1;
constexpr NodeId kTrue = 2;
constexpr NodeId kEmptyTuple = 3;
constexpr NodeId kSmallInts = 4;
constexpr int64_t kNumSmallInts = 256;

}  // namespace

PickleMachine::PickleMachine(std::span<const std::byte> bytes, const std::string& where)
    : cursor_(bytes.first(std::min(bytes.size(), kMaxPickleBytes)), where), bytes_(bytes) {
  graph_.bytes_ = bytes;
  graph_.where_ = where;
  // Values that need no identity are shared, so that they cost a reference and no node.
  for (const NodeKind kind : {NodeKind::kNone, NodeKind::kBool, NodeKind::kBool, NodeKind::kTuple}) {
    add({.kind = kind});
  }
  node(kTrue).value = 1;
  for (int64_t i = 0; i < kNumSmallInts; ++i) add({.kind = NodeKind::kInt, .value = i});
}

void PickleMachine::fail(const std::string& what) const {
  throw Error(cursor_.where(), what + " at byte " + std::to_string(opcode_at_) + " of the pickle");
}

NodeId PickleMachine::add(PickleNode node) {
  if (graph_.nodes_.size() >= kMaxPickleNodes) {
    fail("more than " + std::to_string(kMaxPickleNodes) + " objects");
  }
  graph_.nodes_.push_back(node);
  return static_cast<NodeId>(graph_.nodes_.size() - 1);
}

void PickleMachine::push(NodeId id) {
  if (stack_.size() >= kMaxPickleStack) {
    fail("more than " + std::to_string(kMaxPickleStack) + " values on the stack");
  }
  stack_.push_back(id);
}

void PickleMachine::push_int(int64_t value) {
  const bool small = value >= 0 && value < kNumSmallInts;
  push(small ? kSmallInts + static_cast<NodeId>(value) : add({.kind = NodeKind::kInt, .value = value}));
}

void PickleMachine::push_big_int(uint64_t length) {
  const auto digits = cursor_.take(length);
  if (digits.size() > sizeof(uint64_t)) return push(add_text(NodeKind::kBigInt, digits));
  const bool negative = !digits.empty() && (digits.back() & std::byte{0x80}) != std::byte{0};
  uint64_t value = negative ? UINT64_MAX : 0;
  for (size_t i = digits.size(); i-- > 0;) value = (value << 8) | static_cast<uint64_t>(digits[i]);
  push_int(static_cast<int64_t>(value));
}

NodeId PickleMachine::add_text(NodeKind kind, std::span<const std::byte> text) {
  return add({.kind = kind, .a = static_cast<uint32_t>(text.size()), .value = text.data() - bytes_.data()});
}

void PickleMachine::push_text(NodeKind kind, uint64_t length) {
  push(add_text(kind, cursor_.take(length)));
}

NodeId PickleMachine::top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("a value is missing on the stack");
  return stack_.back();
}

NodeId PickleMachine::pop() {
  const NodeId id = top();
  stack_.pop_back();
  return id;
}

size_t PickleMachine::pop_mark() {
  if (marks_.empty()) fail("a mark is missing on the stack");
  const size_t begin = marks_.back();
  marks_.pop_back();
  return begin;
}

void PickleMachine::append(NodeId container, NodeId item) {
  if (graph_.items_.size() >= kMaxPickleItems) {
    fail("more than " + std::to_string(kMaxPickleItems) + " references");
  }
  const auto id = static_cast<uint32_t>(graph_.items_.size());
  graph_.items_.push_back({item, kNoNode});
  PickleNode& owner = node(container);
  if (owner.first == kNoNode) {
    owner.first = id;
  } else {
    graph_.items_[owner.last].next = id;
  }
  owner.last = id;
}

void PickleMachine::move_items(size_t begin, NodeId container) {
  for (size_t i = begin; i < stack_.size(); ++i) append(container, stack_[i]);
  stack_.resize(begin);
}

void PickleMachine::push_container(NodeKind kind, size_t begin) {
  if (kind == NodeKind::kDict && (stack_.size() - begin) % 2 != 0) fail("a key without a value");
  const NodeId id = add({.kind = kind});
  move_items(begin, id);
  push(id);
}

// APPENDS, SETITEMS, ADDITEMS: the container lies below the values.
void PickleMachine::extend(size_t begin, bool pairs) {
  if (begin == 0 || begin <= (marks_.empty() ? 0 : marks_.back()))
    fail("a container is missing on the stack");
  const NodeId container = stack_[begin - 1];
  PickleNode& owner = node(container);
  if (pairs && (stack_.size() - begin) % 2 != 0) fail("a key without a value");
  const bool list_like = owner.kind == NodeKind::kList || owner.kind == NodeKind::kSet;
  const bool fits = owner.kind == NodeKind::kObject ? owner.first == kNoNode || owner.has_pairs == pairs
                    : pairs                         ? owner.kind == NodeKind::kDict
                                                    : list_like;
  if (!fits) fail("values for something that is no container of such");
  owner.has_pairs = pairs;
  move_items(begin, container);
}

void PickleMachine::remember(uint64_t key) {
  if (key >= kMaxPickleMemo) fail("memo key " + std::to_string(key) + " is over the limit");
  if (key >= memo_.size()) memo_.resize(static_cast<size_t>(key) + 1, kNoNode);
  NodeId& slot = memo_[static_cast<size_t>(key)];
  if (slot == kNoNode) ++memoized_;
  slot = top();
}

void PickleMachine::recall(uint64_t key) {
  if (key >= memo_.size() || memo_[static_cast<size_t>(key)] == kNoNode) {
    fail("memo key " + std::to_string(key) + " was never set");
  }
  push(memo_[static_cast<size_t>(key)]);
}

bool PickleMachine::run_scalar(Op opcode) {
  switch (opcode) {
    case Op::kNone:
      push(kNone);
      return true;
    case Op::kTrue:
      push(kTrue);
      return true;
    case Op::kFalse:
      push(kFalse);
      return true;
    case Op::kInt4:
      push_int(static_cast<int32_t>(cursor_.number<uint32_t>()));
      return true;
    case Op::kInt1:
      push_int(cursor_.number<uint8_t>());
      return true;
    case Op::kInt2:
      push_int(cursor_.number<uint16_t>());
      return true;
    case Op::kLong1:
      push_big_int(cursor_.number<uint8_t>());
      return true;
    case Op::kLong4:
      push_big_int(cursor_.number<uint32_t>());
      return true;
    case Op::kFloat8:
      cursor_.take(8);
      push(add({.kind = NodeKind::kFloat}));
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_text(Op opcode) {
  switch (opcode) {
    case Op::kUnicode1:
    case Op::kString1:
      push_text(NodeKind::kText, cursor_.number<uint8_t>());
      return true;
    case Op::kUnicode4:
    case Op::kString4:
      push_text(NodeKind::kText, cursor_.number<uint32_t>());
      return true;
    case Op::kUnicode8:
      push_text(NodeKind::kText, cursor_.number<uint64_t>());
      return true;
    case Op::kBytes1:
      push_text(NodeKind::kBytes, cursor_.number<uint8_t>());
      return true;
    case Op::kBytes4:
      push_text(NodeKind::kBytes, cursor_.number<uint32_t>());
      return true;
    case Op::kBytes8:
    case Op::kByteArray8:
      push_text(NodeKind::kBytes, cursor_.number<uint64_t>());
      return true;
    default:
      return false;
  }
}

size_t PickleMachine::last(size_t count) const {
  const size_t floor = marks_.empty() ? 0 : marks_.back();
  if (stack_.size() - floor < count) fail("a value is missing on the stack");
  return stack_.size() - count;
}

bool PickleMachine::run_container(Op opcode) {
  switch (opcode) {
    case Op::kEmptyTuple:
      push(kEmptyTuple);
      return true;
    case Op::kEmptyList:
      push(add({.kind = NodeKind::kList}));
      return true;
    case Op::kEmptyDict:
      push(add({.kind = NodeKind::kDict}));
      return true;
    case Op::kEmptySet:
      push(add({.kind = NodeKind::kSet}));
      return true;
    case Op::kTuple1:
      push_container(NodeKind::kTuple, last(1));
      return true;
    case Op::kTuple2:
      push_container(NodeKind::kTuple, last(2));
      return true;
    case Op::kTuple3:
      push_container(NodeKind::kTuple, last(3));
      return true;
    case Op::kTuple:
      push_container(NodeKind::kTuple, pop_mark());
      return true;
    case Op::kList:
      push_container(NodeKind::kList, pop_mark());
      return true;
    case Op::kDict:
      push_container(NodeKind::kDict, pop_mark());
      return true;
    case Op::kFrozenSet:
      push_container(NodeKind::kSet, pop_mark());
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_items(Op opcode) {
  switch (opcode) {
    case Op::kAppend:
      extend(last(1), /*pairs=*/false);
      return true;
    case Op::kAppends:
    case Op::kAddItems:
      extend(pop_mark(), /*pairs=*/false);
      return true;
    case Op::kSetItem:
      extend(last(2), /*pairs=*/true);
      return true;
    case Op::kSetItems:
      extend(pop_mark(), /*pairs=*/true);
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_stack(Op opcode) {
  switch (opcode) {
    case Op::kMark:
      if (marks_.size() >= kMaxPickleStack) fail("too many marks on the stack");
      marks_.push_back(stack_.size());
      return true;
    case Op::kPop:
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case Op::kPopMark:
      stack_.resize(pop_mark());
      return true;
    case Op::kDup:
      push(top());
      return true;
    case Op::kPut1:
      remember(cursor_.number<uint8_t>());
      return true;
    case Op::kPut4:
      remember(cursor_.number<uint32_t>());
      return true;
    case Op::kMemoize:
      remember(memoized_);
      return true;
    case Op::kGet1:
      recall(cursor_.number<uint8_t>());
      return true;
    case Op::kGet4:
      recall(cursor_.number<uint32_t>());
      return true;
    case Op::kFrame:  // a frame is a hint for buffered reading
      if (cursor_.number<uint64_t>() > cursor_.remaining())
        fail("a frame longer than the bytes that are left");
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_object(Op opcode) {
  PickleNode object{.kind = NodeKind::kObject};
  switch (opcode) {
    case Op::kGlobal: {
      const auto module = cursor_.line();
      const auto name = cursor_.line();
      object.kind = NodeKind::kGlobal;
      object.a = add_text(NodeKind::kText, std::as_bytes(std::span(module)));
      object.b = add_text(NodeKind::kText, std::as_bytes(std::span(name)));
      break;
    }
    case Op::kStackGlobal:
      object.kind = NodeKind::kGlobal;
      object.b = pop();
      object.a = pop();
      if (graph_.kind(object.a) != NodeKind::kText || graph_.kind(object.b) != NodeKind::kText) {
        fail("a global whose name is no text");
      }
      break;
    case Op::kReduce:
    case Op::kNewObject:
      object.b = pop();
      object.a = pop();
      break;
    case Op::kNewObjectEx:  // keyword arguments on top
      pop();
      object.b = pop();
      object.a = pop();
      break;
    case Op::kBuild: {
      const NodeId state = pop();
      if (graph_.kind(top()) == NodeKind::kObject) node(top()).state = state;
      return true;
    }
    case Op::kPersistentId:
      object.kind = NodeKind::kPersistent;
      object.a = pop();
      break;
    default:
      return false;
  }
  push(add(object));
  return true;
}

PickleGraph PickleMachine::run() {
  for (size_t operations = 0;; ++operations) {
    opcode_at_ = cursor_.position();
    if (operations == kMaxPickleOperations) {
      fail("more than " + std::to_string(kMaxPickleOperations) + " operations");
    }
    const auto opcode = static_cast<Op>(cursor_.number<uint8_t>());
    if (opcode == Op::kStop) break;
    if (opcode == Op::kProto) {
      const auto protocol = cursor_.number<uint8_t>();
      if (protocol < 2 || protocol > 5) fail("protocol " + std::to_string(protocol) + ", 2 to 5 are read,");
    } else if (!run_scalar(opcode) && !run_text(opcode) && !run_container(opcode) && !run_items(opcode) &&
               !run_stack(opcode) && !run_object(opcode)) {
      fail("unknown operation " + std::to_string(static_cast<int>(opcode)));
    }
  }
  graph_.root_ = pop();
  graph_.end_ = cursor_.position();
  return std::move(graph_);
}

}  // namespace ptq
