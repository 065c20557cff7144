#include "artifact/transform_io.h"

#include "ptq/base/error.h"
#include "ptq/model/weight.h"

namespace ptq {
namespace {

constexpr double kOrthogonality = 1e-3;
constexpr size_t kMaxStages = 16;

// S.permutation, S.permutation_1, ...
std::string numbered(const std::string& name, int64_t index) {
  return index == 0 ? name : name + "_" + std::to_string(index);
}

Tensor read_vector(const Checkpoint& checkpoint, const std::string& name, DType dtype) {
  const TensorBytes bytes = checkpoint.read(name);
  if (bytes.info.dtype != dtype || bytes.info.shape.size() != 1 || bytes.info.shape[0] < 1) {
    throw Error(name, std::string("is ") + dtype_name(bytes.info.dtype) + " " + shape_text(bytes.info.shape) +
                          " where " + dtype_name(dtype) + " [channels] is needed");
  }
  return as_tensor(bytes).to(at::kLong, /*non_blocking=*/false, /*copy=*/true);
}

Permutation read_permutation(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor index = read_vector(checkpoint, name, DType::kI32);
  if (!at::equal(std::get<0>(index.sort()), at::arange(index.size(0)))) {
    throw Error(name, "is no permutation of its " + std::to_string(index.size(0)) + " channels");
  }
  return {index};
}

Signs read_signs(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor signs = read_vector(checkpoint, name, DType::kI8);
  if (!at::equal(signs.abs(), at::ones_like(signs))) throw Error(name, "has entries other than +1 and -1");
  return {signs.to(at::kFloat)};
}

// [n, B, B]
Tensor read_rotations(const Checkpoint& checkpoint, const std::string& name) {
  const TensorBytes bytes = checkpoint.read(name);
  const std::vector<int64_t>& shape = bytes.info.shape;
  if (bytes.info.dtype != DType::kF32 || shape.size() != 3 || shape[1] != shape[2] || shape[1] < 1) {
    throw Error(name, std::string("is ") + dtype_name(bytes.info.dtype) + " " + shape_text(shape) +
                          " where F32 [rotations, block, block] is needed");
  }
  return as_tensor(bytes).clone();
}

BlockRotation rotation_of(const Tensor& rotations, int64_t index, const std::string& name) {
  if (index >= rotations.size(0)) {
    throw Error(name,
                "has " + std::to_string(rotations.size(0)) + " rotations; the configuration names more");
  }
  const BlockRotation rotation{rotations[index].contiguous()};
  const double error = Transform{{rotation}}.orthogonality_error();
  if (!(error < kOrthogonality)) {
    throw Error(name, "rotation " + std::to_string(index) + " is not orthogonal: R R^T is off by " +
                          std::to_string(error));
  }
  return rotation;
}

}  // namespace

Json write_transform(const Transform& transform, const std::string& key,
                     const std::function<void(const std::string&, const Tensor&)>& add) {
  Json stages = Json::array();
  std::vector<Tensor> rotations;
  int64_t permutations = 0, signs = 0;
  for (const TransformOp& stage : transform.stages) {
    if (const auto* H = std::get_if<Hadamard>(&stage)) {
      Json json = {{"type", "hadamard"}};
      json.update(H->to_json());
      stages.push_back(json);
    } else if (const auto* rotation = std::get_if<BlockRotation>(&stage)) {
      rotations.push_back(rotation->R);
      stages.push_back({{"type", "rotation"}});
    } else if (const auto* permutation = std::get_if<Permutation>(&stage)) {
      add(numbered(key + ".permutation", permutations++), permutation->index.to(at::kInt));
      stages.push_back({{"type", "permutation"}});
    } else if (const auto* diagonal = std::get_if<Signs>(&stage)) {
      add(numbered(key + ".signs", signs++), diagonal->values.to(at::kChar));
      stages.push_back({{"type", "signs"}});
    }
  }
  if (!rotations.empty()) add(key + ".rotation", at::stack(rotations));
  return stages;
}

std::vector<std::string> transform_tensors(const Json& stages, const std::string& key) {
  std::vector<std::string> names;
  int64_t permutations = 0, signs = 0;
  for (const Json& stage : stages) {
    const Json type = stage.is_object() ? stage.value("type", Json()) : Json();
    if (type == "rotation") names.push_back(key + ".rotation");
    if (type == "permutation") names.push_back(numbered(key + ".permutation", permutations++));
    if (type == "signs") names.push_back(numbered(key + ".signs", signs++));
  }
  return names;
}

Transform read_transform(const Json& stages, const std::string& key, const Checkpoint& checkpoint) {
  if (!stages.is_array() || stages.size() > kMaxStages) {
    throw Error(key, "the transform " + stages.dump().substr(0, 80) + " is not a list of at most " +
                         std::to_string(kMaxStages) + " stages");
  }
  Transform transform;
  Tensor rotations;
  int64_t num_rotations = 0, permutations = 0, signs = 0;
  for (const Json& json : stages) {
    const std::string where = key + ".transform";
    const std::string type = json.is_object() ? json.value("type", Json()).dump() : "";
    const bool plain = type == "\"rotation\"" || type == "\"permutation\"" || type == "\"signs\"";
    if (plain && json.size() != 1)
      throw Error(where, "the stage " + json.dump().substr(0, 80) + " has more entries than its type");
    if (type == "\"hadamard\"") {
      Json description = json;
      description.erase("type");
      transform.stages.emplace_back(hadamard_from_json(description, where));
    } else if (type == "\"rotation\"") {
      if (!rotations.defined()) rotations = read_rotations(checkpoint, key + ".rotation");
      transform.stages.emplace_back(rotation_of(rotations, num_rotations++, key + ".rotation"));
    } else if (type == "\"permutation\"") {
      transform.stages.emplace_back(
          read_permutation(checkpoint, numbered(key + ".permutation", permutations++)));
    } else if (type == "\"signs\"") {
      transform.stages.emplace_back(read_signs(checkpoint, numbered(key + ".signs", signs++)));
    } else {
      throw Error(where, "the stage " + json.dump().substr(0, 80) + " is not one this program reads");
    }
  }
  if (rotations.defined() && rotations.size(0) != num_rotations) {
    throw Error(key + ".rotation", "has " + std::to_string(rotations.size(0)) +
                                       " rotations; the configuration names " +
                                       std::to_string(num_rotations));
  }
  return transform;
}

}  // namespace ptq
