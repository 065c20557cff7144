#include "checkpoint/pickle.h"

#include <array>

#include "checkpoint/bytes.h"
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

class PickleMachine {
 public:
  PickleMachine(std::span<const std::byte> bytes, const std::string& where);
  PickleGraph run();

 private:
  // Each runs one opcode of its group; false if the opcode is of another group.
  bool run_scalar(uint8_t opcode);
  bool run_text(uint8_t opcode);
  bool run_container(uint8_t opcode);
  bool run_stack(uint8_t opcode);
  bool run_object(uint8_t opcode);

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

bool PickleMachine::run_scalar(uint8_t opcode) {
  switch (opcode) {
    case 'N':
      push(kNone);
      return true;
    case 0x88:
      push(kTrue);
      return true;
    case 0x89:
      push(kFalse);
      return true;
    case 'J':
      push_int(static_cast<int32_t>(cursor_.number<uint32_t>()));
      return true;
    case 'K':
      push_int(cursor_.number<uint8_t>());
      return true;
    case 'M':
      push_int(cursor_.number<uint16_t>());
      return true;
    case 0x8a:
      push_big_int(cursor_.number<uint8_t>());
      return true;
    case 0x8b:
      push_big_int(cursor_.number<uint32_t>());
      return true;
    case 'G':
      cursor_.take(8);
      push(add({.kind = NodeKind::kFloat}));
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_text(uint8_t opcode) {
  switch (opcode) {
    case 'X':
      push_text(NodeKind::kText, cursor_.number<uint32_t>());
      return true;
    case 0x8c:
      push_text(NodeKind::kText, cursor_.number<uint8_t>());
      return true;
    case 0x8d:
      push_text(NodeKind::kText, cursor_.number<uint64_t>());
      return true;
    // Strings of Python 2.
    case 'T':
      push_text(NodeKind::kText, cursor_.number<uint32_t>());
      return true;
    case 'U':
      push_text(NodeKind::kText, cursor_.number<uint8_t>());
      return true;
    case 'B':
      push_text(NodeKind::kBytes, cursor_.number<uint32_t>());
      return true;
    case 'C':
      push_text(NodeKind::kBytes, cursor_.number<uint8_t>());
      return true;
    case 0x8e:
      push_text(NodeKind::kBytes, cursor_.number<uint64_t>());
      return true;
    case 0x96:
      push_text(NodeKind::kBytes, cursor_.number<uint64_t>());
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_container(uint8_t opcode) {
  const auto last = [&](size_t count) {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < count) fail("a value is missing on the stack");
    return stack_.size() - count;
  };
  switch (opcode) {
    case ')':
      push(kEmptyTuple);
      return true;
    case ']':
      push(add({.kind = NodeKind::kList}));
      return true;
    case '}':
      push(add({.kind = NodeKind::kDict}));
      return true;
    case 0x8f:
      push(add({.kind = NodeKind::kSet}));
      return true;
    case 0x85:
      push_container(NodeKind::kTuple, last(1));
      return true;
    case 0x86:
      push_container(NodeKind::kTuple, last(2));
      return true;
    case 0x87:
      push_container(NodeKind::kTuple, last(3));
      return true;
    case 't':
      push_container(NodeKind::kTuple, pop_mark());
      return true;
    case 'l':
      push_container(NodeKind::kList, pop_mark());
      return true;
    case 'd':
      push_container(NodeKind::kDict, pop_mark());
      return true;
    case 0x91:
      push_container(NodeKind::kSet, pop_mark());
      return true;
    case 'a':
      extend(last(1), /*pairs=*/false);
      return true;
    case 'e':
      extend(pop_mark(), /*pairs=*/false);
      return true;
    case 0x90:
      extend(pop_mark(), /*pairs=*/false);
      return true;
    case 's':
      extend(last(2), /*pairs=*/true);
      return true;
    case 'u':
      extend(pop_mark(), /*pairs=*/true);
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_stack(uint8_t opcode) {
  switch (opcode) {
    case '(':
      if (marks_.size() >= kMaxPickleStack) fail("too many marks on the stack");
      marks_.push_back(stack_.size());
      return true;
    case '0':
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1':
      stack_.resize(pop_mark());
      return true;
    case '2':
      push(top());
      return true;
    case 'q':
      remember(cursor_.number<uint8_t>());
      return true;
    case 'r':
      remember(cursor_.number<uint32_t>());
      return true;
    case 0x94:
      remember(memoized_);
      return true;
    case 'h':
      recall(cursor_.number<uint8_t>());
      return true;
    case 'j':
      recall(cursor_.number<uint32_t>());
      return true;
    case 0x95:  // a frame is a hint for buffered reading
      if (cursor_.number<uint64_t>() > cursor_.remaining())
        fail("a frame longer than the bytes that are left");
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_object(uint8_t opcode) {
  PickleNode object{.kind = NodeKind::kObject};
  switch (opcode) {
    case 'c': {
      const auto module = cursor_.line();
      const auto name = cursor_.line();
      object.kind = NodeKind::kGlobal;
      object.a = add_text(NodeKind::kText, std::as_bytes(std::span(module)));
      object.b = add_text(NodeKind::kText, std::as_bytes(std::span(name)));
      break;
    }
    case 0x93:
      object.kind = NodeKind::kGlobal;
      object.b = pop();
      object.a = pop();
      if (graph_.kind(object.a) != NodeKind::kText || graph_.kind(object.b) != NodeKind::kText) {
        fail("a global whose name is no text");
      }
      break;
    case 'R':
    case 0x81:
      object.b = pop();
      object.a = pop();
      break;
    case 0x92:  // keyword arguments on top
      pop();
      object.b = pop();
      object.a = pop();
      break;
    case 'b': {
      const NodeId state = pop();
      if (graph_.kind(top()) == NodeKind::kObject) node(top()).state = state;
      return true;
    }
    case 'Q':
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
  while (true) {
    opcode_at_ = cursor_.position();
    const auto opcode = cursor_.number<uint8_t>();
    if (opcode == '.') break;
    if (opcode == 0x80) {
      const auto protocol = cursor_.number<uint8_t>();
      if (protocol < 2 || protocol > 5) fail("protocol " + std::to_string(protocol) + ", 2 to 5 are read,");
    } else if (!run_scalar(opcode) && !run_text(opcode) && !run_container(opcode) && !run_stack(opcode) &&
               !run_object(opcode)) {
      fail("unknown operation " + std::to_string(opcode));
    }
  }
  graph_.root_ = pop();
  graph_.end_ = cursor_.position();
  return std::move(graph_);
}

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
