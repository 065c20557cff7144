#include "checkpoint/torch_tensor.h"

#include <array>

#include "checkpoint/bytes.h"
#include "ptq/base/error.h"

namespace ptq {
namespace {

struct NamedDType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<NamedDType, 11> kStorageTypes = {{
    {"DoubleStorage", DType::kF64},
    {"FloatStorage", DType::kF32},
    {"HalfStorage", DType::kF16},
    {"BFloat16Storage", DType::kBF16},
    {"LongStorage", DType::kI64},
    {"IntStorage", DType::kI32},
    {"ShortStorage", DType::kI16},
    {"CharStorage", DType::kI8},
    {"ByteStorage", DType::kU8},
    {"BoolStorage", DType::kBool},
    {"UntypedStorage", DType::kU8},
}};
constexpr std::array<NamedDType, 15> kTypes = {{
    {"float64", DType::kF64},
    {"float32", DType::kF32},
    {"float16", DType::kF16},
    {"bfloat16", DType::kBF16},
    {"float8_e4m3fn", DType::kF8E4M3},
    {"float8_e5m2", DType::kF8E5M2},
    {"int64", DType::kI64},
    {"int32", DType::kI32},
    {"int16", DType::kI16},
    {"int8", DType::kI8},
    {"uint64", DType::kU64},
    {"uint32", DType::kU32},
    {"uint16", DType::kU16},
    {"uint8", DType::kU8},
    {"bool", DType::kBool},
}};

template <size_t kCount>
std::optional<DType> lookup(const std::array<NamedDType, kCount>& table, std::string_view name) {
  for (const NamedDType& row : table) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

// Enough for a parameter of a tensor subclass in a parameter.
constexpr int kMaxWrappers = 8;
constexpr size_t kMaxArguments = 8;
constexpr size_t kMaxStorageKey = 255;

// A function of torch that rebuilds something, and its arguments (a tuple node).
struct Call {
  std::string_view function;
  NodeId arguments;
};

std::string_view rebuild_function(const PickleGraph& graph, NodeId callable) {
  const std::string_view module = graph.global_module(callable);
  const std::string_view name = graph.global_name(callable);
  const bool known = module == "torch._utils" || module == "torch._tensor" || module == "torch.tensor";
  return known && name.starts_with("_rebuild_") ? name : std::string_view();
}

bool is_plain(std::string_view function) {
  return function == "_rebuild_tensor" || function == "_rebuild_tensor_v2" ||
         function == "_rebuild_tensor_v3";
}

// Takes parameters and subclasses off; nullopt if the node calls no rebuilding function.
std::optional<Call> unwrap(const PickleGraph& graph, NodeId node) {
  if (graph.kind(node) != NodeKind::kObject) return std::nullopt;
  Call call{rebuild_function(graph, graph.at(node).a), graph.at(node).b};
  for (int i = 0; i < kMaxWrappers; ++i) {
    if (call.function.empty() || graph.kind(call.arguments) != NodeKind::kTuple) return std::nullopt;
    if (is_plain(call.function)) return call;
    const auto arguments = graph.items(call.arguments, kMaxArguments);
    if (call.function.starts_with("_rebuild_parameter") && !arguments.empty()) {
      if (graph.kind(arguments[0]) != NodeKind::kObject) return call;
      call = {rebuild_function(graph, graph.at(arguments[0]).a), graph.at(arguments[0]).b};
    } else if (call.function.starts_with("_rebuild_from_type") && arguments.size() >= 3) {
      call = {rebuild_function(graph, arguments[0]), arguments[2]};
    } else {
      return call;
    }
  }
  return std::nullopt;
}

std::vector<int64_t> numbers(const PickleGraph& graph, NodeId node, const std::string& where) {
  // torch.Size is pickled as a call with the tuple as its argument.
  if (graph.kind(node) == NodeKind::kObject && graph.global_name(graph.at(node).a) == "Size") {
    const auto arguments = graph.items(graph.at(node).b, 1);
    if (!arguments.empty()) node = arguments[0];
  }
  if (graph.kind(node) != NodeKind::kTuple && graph.kind(node) != NodeKind::kList) {
    throw Error(where, "its sizes or strides are no tuple");
  }
  const auto items = graph.items(node, kMaxDims + 1);
  std::vector<int64_t> values;
  values.reserve(items.size());
  for (const NodeId item : items) values.push_back(graph.integer(item));
  return values;
}

void check_metadata(const PickleGraph& graph, const std::vector<NodeId>& arguments, size_t index,
                    const std::string& where) {
  if (arguments.size() > index && graph.kind(arguments[index]) == NodeKind::kDict &&
      graph.first(arguments[index]) != kNoNode) {
    throw Error(where, "it is a conjugated or negated view, which is not read", "save tensor.clone()");
  }
}

}  // namespace

std::optional<TorchStorage> torch_storage(const PickleGraph& graph, NodeId persistent,
                                          const std::string& where) {
  const NodeId identifier = graph.at(persistent).a;
  if (graph.kind(identifier) != NodeKind::kTuple) return std::nullopt;
  const auto fields = graph.items(identifier, 6);
  if (fields.empty() || graph.text(fields[0]) != "storage") return std::nullopt;
  if (fields.size() < 5 || graph.kind(fields[2]) != NodeKind::kText ||
      graph.text(fields[2]).size() > kMaxStorageKey) {
    throw Error(where, "a malformed reference to a storage");
  }
  TorchStorage storage;
  storage.key = graph.text(fields[2]);
  const std::string_view type = graph.global_name(fields[1]);
  const auto dtype = lookup(kStorageTypes, type);
  if (!dtype) throw Error(where, "the type \"" + printable(type) + "\" is not supported");
  storage.dtype = *dtype;
  int64_t bytes = 0;
  const int64_t elements = graph.integer(fields[4]);
  if (elements < 0 || __builtin_mul_overflow(elements, dtype_bytes(*dtype), &bytes)) {
    throw Error(where, std::to_string(elements) + " elements are impossible");
  }
  storage.bytes = static_cast<uint64_t>(bytes);
  if (fields.size() == 6 && graph.kind(fields[5]) == NodeKind::kTuple) {
    const auto view = graph.items(fields[5], 3);
    if (view.size() != 3) throw Error(where, "a malformed view of a storage");
    storage.view_offset = graph.integer(view[1]);
  }
  return storage;
}

bool is_torch_tensor(const PickleGraph& graph, NodeId node) {
  const auto call = unwrap(graph, node);
  return call && is_plain(call->function);
}

bool is_unsupported_tensor(const PickleGraph& graph, NodeId node) {
  const auto call = unwrap(graph, node);
  return call && !is_plain(call->function);
}

StoredTensor torch_tensor(const PickleGraph& graph, NodeId node, const std::string& where,
                          const StorageFinder& find_storage) {
  const auto call = unwrap(graph, node);
  const auto arguments = graph.items(call->arguments, kMaxArguments);
  const bool names_dtype = call->function == "_rebuild_tensor_v3";
  if (arguments.size() < (names_dtype ? 7U : 4U) || graph.kind(arguments[0]) != NodeKind::kPersistent) {
    throw Error(where, "a malformed tensor in the pickle");
  }
  const auto storage = torch_storage(graph, arguments[0], where);
  if (!storage) throw Error(where, "its storage is no storage");
  check_metadata(graph, arguments, names_dtype ? 7 : 6, where);
  StoredTensor tensor;
  tensor.info.dtype = storage->dtype;
  if (names_dtype) {
    const std::string_view type = graph.global_name(arguments[6]);
    const auto dtype = lookup(kTypes, type);
    if (!dtype) throw Error(where, "the type \"" + printable(type) + "\" is not supported");
    tensor.info.dtype = *dtype;
  }
  if (__builtin_add_overflow(graph.integer(arguments[1]), storage->view_offset, &tensor.first_element) ||
      storage->view_offset < 0) {
    throw Error(where, "its offset in the storage is impossible");
  }
  tensor.info.shape = numbers(graph, arguments[2], where);
  tensor.strides = numbers(graph, arguments[3], where);
  if (tensor.info.shape.size() != tensor.strides.size()) {
    throw Error(where, std::to_string(tensor.info.shape.size()) + " sizes but " +
                           std::to_string(tensor.strides.size()) + " strides");
  }
  tensor.storage = find_storage(*storage);
  return tensor;
}

}  // namespace ptq
