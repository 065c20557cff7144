#include "checkpoint/torch_objects.h"

#include <algorithm>
#include <array>
#include <set>

#include "checkpoint/bytes.h"
#include "checkpoint/torch_tensor.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr size_t kMaxModuleDepth = 64;
// A pickle may refer to one module from many places; its tensors are then visited once for each.
constexpr size_t kMaxVisits = 10'000'000;
constexpr std::array<std::string_view, 4> kStateKeys = {"model", "state_dict", "model_state_dict", "module"};

struct Entry {
  NodeId key;
  NodeId value;
};

// Collects what the model is made of, counting its steps.
class StateReader {
 public:
  StateReader(const PickleGraph& graph, std::vector<std::string>& notes) : graph_(graph), notes_(notes) {}

  // The entries of a dict or of an object that behaves like one.
  std::vector<Entry> entries(NodeId node);
  // kNoNode if there is no such key.
  NodeId find(NodeId dict, std::string_view key);
  bool is_module(NodeId node);
  // True for a module and for a dict with tensors in it.
  bool has_tensors(NodeId node);
  // Whether the tensors are those of a module in a module: "a.b".
  bool has_dotted_tensors(NodeId node);
  NodeId follow(const std::string& state_key);
  NodeId choose();
  std::vector<NamedNode> tensors(NodeId node);

 private:
  void visit(size_t steps);
  NodeId module_state(NodeId node) const;
  std::vector<NamedNode> dict_tensors(NodeId node);
  std::vector<NamedNode> module_tensors(NodeId node);
  void add_module_tensors(NodeId state, const std::string& prefix, std::vector<NamedNode>& found);
  std::set<std::string_view> hidden_buffers(NodeId state);
  void add(std::string name, NodeId node, std::vector<NamedNode>& found);
  std::vector<std::string> keys_with_tensors();
  std::string beside(NodeId chosen);

  const PickleGraph& graph_;
  std::vector<std::string>& notes_;
  size_t visits_ = 0;
  size_t name_bytes_ = 0;
};

void StateReader::visit(size_t steps) {
  visits_ += steps;
  if (visits_ > kMaxVisits) {
    throw Error(graph_.where(), "its objects refer to each other so often that there is no end to them");
  }
}

std::vector<Entry> StateReader::entries(NodeId node) {
  std::vector<Entry> found;
  visit(1);
  if (graph_.kind(node) != NodeKind::kDict && graph_.kind(node) != NodeKind::kObject) return found;
  const bool pairs = graph_.kind(node) == NodeKind::kDict || graph_.at(node).has_pairs;
  for (uint32_t i = graph_.first(node); pairs && i != kNoNode; i = graph_.next(i)) {
    const NodeId key = graph_.item(i);
    i = graph_.next(i);
    found.push_back({key, graph_.item(i)});
  }
  // OrderedDict([(key, value), ...]), as Python 2 wrote it.
  if (graph_.kind(node) == NodeKind::kObject && graph_.global_name(graph_.at(node).a) == "OrderedDict") {
    for (const NodeId list : graph_.items(graph_.at(node).b, 1)) {
      for (uint32_t i = graph_.first(list); i != kNoNode; i = graph_.next(i)) {
        const auto pair = graph_.items(graph_.item(i), 2);
        visit(1);
        if (pair.size() == 2) found.push_back({pair[0], pair[1]});
      }
    }
  }
  visit(found.size());
  return found;
}

NodeId StateReader::find(NodeId dict, std::string_view key) {
  NodeId found = kNoNode;
  for (const Entry& entry : entries(dict)) {
    if (graph_.kind(entry.key) == NodeKind::kText && graph_.text(entry.key) == key) found = entry.value;
  }
  return found;
}

NodeId StateReader::module_state(NodeId node) const {
  if (graph_.kind(node) != NodeKind::kObject) return kNoNode;
  NodeId state = graph_.at(node).state;
  if (state == kNoNode) return kNoNode;
  if (graph_.kind(state) == NodeKind::kTuple) {  // (__dict__, slots)
    const auto parts = graph_.items(state, 1);
    state = parts.empty() ? kNoNode : parts[0];
  }
  return state != kNoNode && graph_.kind(state) == NodeKind::kDict ? state : kNoNode;
}

bool StateReader::is_module(NodeId node) {
  const NodeId state = module_state(node);
  return state != kNoNode && find(state, "_parameters") != kNoNode && find(state, "_modules") != kNoNode;
}

bool StateReader::has_tensors(NodeId node) {
  if (is_module(node)) return true;
  return std::ranges::any_of(entries(node), [&](const Entry& entry) {
    visit(1);
    // Kinds that are not read count too: the dict that has them is meant, and the error is to name them.
    return is_torch_tensor(graph_, entry.value) || is_unsupported_tensor(graph_, entry.value);
  });
}

std::vector<std::string> StateReader::keys_with_tensors() {
  constexpr size_t kEnough = 20;
  std::vector<std::string> keys;
  for (const Entry& entry : entries(graph_.root())) {
    if (keys.size() == kEnough) break;
    if (graph_.kind(entry.key) != NodeKind::kText) continue;
    if (has_tensors(entry.value)) keys.push_back(printable(graph_.text(entry.key)));
    for (const Entry& inner : entries(entry.value)) {
      if (keys.size() == kEnough) break;
      if (graph_.kind(inner.key) != NodeKind::kText || is_torch_tensor(graph_, inner.value)) continue;
      if (!has_tensors(inner.value)) continue;
      keys.push_back(printable(graph_.text(entry.key)) + "." + printable(graph_.text(inner.key)));
    }
  }
  return keys;
}

// Keys may have dots in them: at each level the longest one that fits is taken.
NodeId StateReader::follow(const std::string& state_key) {
  NodeId node = graph_.root();
  std::string_view rest = state_key;
  while (!rest.empty()) {
    std::string_view key = rest;
    NodeId inner = find(node, key);
    while (inner == kNoNode && key.rfind('.') != std::string_view::npos) {
      key = key.substr(0, key.rfind('.'));
      inner = find(node, key);
    }
    if (inner == kNoNode) {
      std::string hint;
      for (const std::string& candidate : keys_with_tensors()) {
        hint += (hint.empty() ? "--state-key " : " or ") + candidate;
      }
      throw Error(graph_.where(),
                  "--state-key " + state_key + ": there is no key \"" + std::string(rest) + "\"", hint);
    }
    node = inner;
    rest.remove_prefix(std::min(rest.size(), key.size() + 1));
  }
  return node;
}

bool StateReader::has_dotted_tensors(NodeId node) {
  if (is_module(node)) return true;
  return std::ranges::any_of(entries(node), [&](const Entry& entry) {
    return graph_.text(entry.key).find('.') != std::string_view::npos && is_torch_tensor(graph_, entry.value);
  });
}

NodeId StateReader::choose() {
  const NodeId root = graph_.root();
  std::vector<std::string> names;
  NodeId chosen = root;
  for (const std::string_view key : kStateKeys) {
    const NodeId inner = find(root, key);
    if (inner == kNoNode || is_torch_tensor(graph_, inner) || !has_tensors(inner)) continue;
    if (names.empty()) chosen = inner;
    names.push_back("\"" + std::string(key) + "\"");
  }
  const bool loose = names.size() == 1 && has_dotted_tensors(chosen) && !has_dotted_tensors(root);
  if (has_tensors(root) && !loose) names.insert(names.begin(), "the top level");
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  if (names.size() > 1) {
    throw Error(graph_.where(), "there is more than one dict of tensors: " + list,
                "name one with --state-key");
  }
  if (names.empty()) {
    const auto keys = keys_with_tensors();
    for (const std::string& key : keys) list += (list.empty() ? "" : ", ") + key;
    std::string known;
    for (const std::string_view key : kStateKeys)
      known += (known.empty() ? "\"" : ", \"") + std::string(key) + "\"";
    throw Error(graph_.where(), "no dict of tensors at the top level or in " + known,
                keys.empty() ? "torch.save(model.state_dict(), path)" : "--state-key with one of: " + list);
  }
  if (chosen != root) notes_.push_back("the tensors are those of the key " + list + beside(chosen));
  return chosen;
}

// "; what lies beside it is not read: ..." with the entries of the top level but `chosen`; "" if there are
// none.
std::string StateReader::beside(NodeId chosen) {
  constexpr size_t kShown = 8;
  std::string list;
  size_t count = 0;
  for (const Entry& entry : entries(graph_.root())) {
    if (entry.value == chosen || graph_.kind(entry.key) != NodeKind::kText) continue;
    if (count++ < kShown) list += (list.empty() ? "" : ", ") + printable(graph_.text(entry.key));
  }
  return count == 0 ? "" : "; what lies beside it is not read: " + list + (count > kShown ? ", ..." : "");
}

void StateReader::add(std::string name, NodeId node, std::vector<NamedNode>& found) {
  name_bytes_ += name.size();
  if (found.size() >= kMaxTensors || name_bytes_ > kMaxTotalNameBytes || name.size() > kMaxNameBytes) {
    throw Error(graph_.where(), "too many tensors, or names that are too long");
  }
  found.push_back({std::move(name), node});
}

std::vector<NamedNode> StateReader::dict_tensors(NodeId node) {
  constexpr size_t kShown = 5;
  std::vector<NamedNode> found;
  std::string ignored;
  size_t num_ignored = 0;
  for (const Entry& entry : entries(node)) {
    const std::string_view key = graph_.text(entry.key);
    if (is_torch_tensor(graph_, entry.value) && graph_.kind(entry.key) == NodeKind::kText) {
      add(std::string(key), entry.value, found);
      continue;
    }
    if (is_unsupported_tensor(graph_, entry.value)) {
      throw Error(graph_.where() + ": tensor \"" + printable(key) + "\"",
                  "sparse, quantized and data-less tensors are not read", "save dense float tensors");
    }
    if (num_ignored++ < kShown) ignored += (ignored.empty() ? "" : ", ") + printable(key);
  }
  if (num_ignored > 0) {
    notes_.push_back("ignored what is no tensor: " + ignored + (num_ignored > kShown ? ", ..." : ""));
  }
  return found;
}

// Names in _non_persistent_buffers_set are not part of state_dict().
std::set<std::string_view> StateReader::hidden_buffers(NodeId state) {
  std::set<std::string_view> names;
  NodeId set = find(state, "_non_persistent_buffers_set");
  if (set == kNoNode) return names;
  if (graph_.kind(set) == NodeKind::kObject) {  // set([...]), as protocol 2 writes it
    const auto arguments = graph_.items(graph_.at(set).b, 1);
    if (arguments.empty()) return names;
    set = arguments[0];
  }
  for (uint32_t i = graph_.first(set); i != kNoNode; i = graph_.next(i)) {
    visit(1);
    names.insert(graph_.text(graph_.item(i)));
  }
  return names;
}

void StateReader::add_module_tensors(NodeId state, const std::string& prefix, std::vector<NamedNode>& found) {
  const auto hidden = hidden_buffers(state);
  for (const std::string_view group : {"_parameters", "_buffers"}) {
    const NodeId dict = find(state, group);
    if (dict == kNoNode) continue;
    for (const Entry& entry : entries(dict)) {
      const std::string_view key = graph_.text(entry.key);
      if (group == "_buffers" && hidden.contains(key)) continue;
      if (graph_.kind(entry.value) == NodeKind::kNone) continue;  // an absent bias
      if (!is_torch_tensor(graph_, entry.value)) {
        throw Error(graph_.where() + ": " + printable(prefix) + printable(key),
                    "a parameter that is no tensor");
      }
      add(prefix + std::string(key), entry.value, found);
    }
  }
}

std::vector<NamedNode> StateReader::module_tensors(NodeId node) {
  struct Pending {
    NodeId module;
    std::string prefix;
    size_t depth;
  };
  std::vector<NamedNode> found;
  std::vector<Pending> pending;
  pending.push_back({node, "", 0});
  while (!pending.empty()) {
    const Pending current = std::move(pending.back());
    pending.pop_back();
    if (current.depth > kMaxModuleDepth || current.prefix.size() > kMaxNameBytes) {
      throw Error(graph_.where(),
                  "modules nested deeper than " + std::to_string(kMaxModuleDepth) + " levels");
    }
    const NodeId state = module_state(current.module);
    if (state == kNoNode) continue;
    add_module_tensors(state, current.prefix, found);
    const NodeId children = find(state, "_modules");
    if (children == kNoNode) continue;
    for (const Entry& entry : entries(children)) {
      if (pending.size() >= kMaxTensors) throw Error(graph_.where(), "too many modules");
      pending.push_back(
          {entry.value, current.prefix + std::string(graph_.text(entry.key)) + ".", current.depth + 1});
    }
  }
  return found;
}

std::vector<NamedNode> StateReader::tensors(NodeId node) {
  if (!is_module(node)) return dict_tensors(node);
  notes_.push_back("the tensors are those of a pickled module");
  return module_tensors(node);
}

}  // namespace

TorchState torch_state(const PickleGraph& graph, const std::string& state_key,
                       std::vector<std::string>& notes) {
  StateReader reader(graph, notes);
  const NodeId node = state_key.empty() ? reader.choose() : reader.follow(state_key);
  TorchState state{reader.tensors(node), node != graph.root()};
  if (state.tensors.empty()) {
    throw Error(graph.where(), "there are no tensors" + (state_key.empty() ? "" : " in " + state_key));
  }
  return state;
}

void add_torch_tensors(const PickleGraph& graph, const std::string& state_key,
                       const StorageFinder& find_storage, TensorFile& file) {
  TorchState state = torch_state(graph, state_key, file.notes);
  file.is_training_checkpoint = state.is_entry;
  for (NamedNode& named : state.tensors) {
    const std::string where = file.path() + ": tensor \"" + printable(named.name) + "\"";
    StoredTensor tensor = torch_tensor(graph, named.node, where, find_storage);
    tensor.info.name = std::move(named.name);
    file.add_tensor(std::move(tensor));
  }
  file.finish();
}

}  // namespace ptq
