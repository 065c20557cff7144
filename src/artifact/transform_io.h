// Transforms of sites, in the program's own format (format.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/model/transform.h"

namespace ptq {

// The list of stages for the configuration; their tensors are given to `add`, under names that begin with
// `key`.
Json write_transform(const Transform& transform, const std::string& key,
                     const std::function<void(const std::string& name, const Tensor& tensor)>& add);

// The transform that write_transform() wrote. Throws Error, naming the tensor or `key`, for anything that is
// not an orthogonal map: a rotation that is not orthogonal to 1e-3, an index twice, a sign that is neither +1
// nor -1, sizes that disagree.
Transform read_transform(const Json& stages, const std::string& key, const Checkpoint& checkpoint);

// Names of the tensors that a list of stages consists of, as far as the list is well formed.
std::vector<std::string> transform_tensors(const Json& stages, const std::string& key);

}  // namespace ptq
