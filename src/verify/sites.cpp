// Entries of sites against their tensors, and against the places that the architecture has.
#include <cstring>
#include <set>

#include "ptq/artifact/format.h"
#include "verify/parts.h"

namespace ptq {
namespace {

constexpr double kOrthogonality = 1e-3;

// The keys that an entry of a site must have, and no other.
void check_keys(Subject& subject, const std::string& key, const Json& entry, const Site& site) {
  const bool dynamic = entry.at("quantizer") == "dynamic";
  std::set<std::string> wanted = {"quantizer", "smooth", "transform"};
  if (entry.at("quantizer") != "none") wanted.insert("bits");
  if (dynamic) wanted.insert({"symmetric", "clip"});
  if (dynamic && site.head_dim > 0) wanted.insert("group");
  if (entry.at("quantizer") == "static" && site.channels > 0 && entry.contains("channels"))
    wanted.insert("channels");
  for (const std::string& name : wanted) {
    if (!entry.contains(name)) subject.findings.add(key, "has no \"" + name + "\" in quantization_config");
  }
  for (const Json& stage : entry.value("transform", Json::array())) {
    const bool hadamard = stage.at("type") == "hadamard";
    for (const auto& [name, value] : stage.items()) {
      const bool size = name == "size" || name == "block" || name == "m" || name == "construction";
      if (name != "type" && !(hadamard && size))
        subject.findings.add(key, "has a stage with a \"" + name + "\" that is not for it");
    }
  }
  for (const auto& [name, value] : entry.items()) {
    if (!wanted.contains(name))
      subject.findings.add(key, "has a \"" + name + "\" that is not for it in quantization_config");
  }
}

// The numbers of a site's tensor, if it has the form.
const ArtifactTensor* site_tensor(Subject& subject, const std::string& name, const char* dtype,
                                  size_t dimensions, std::vector<std::string>& used) {
  const ArtifactTensor* tensor = find_tensor(subject.tensors, name, used, subject.findings);
  if (tensor == nullptr || (tensor->dtype == dtype && tensor->shape.size() == dimensions)) return tensor;
  subject.findings.add(name, "is " + tensor->dtype + " " + shape_text(tensor->shape) + " where " + dtype +
                                 " of " + std::to_string(dimensions) + " dimensions is needed");
  return nullptr;
}

Tensor float_tensor(const ArtifactTensor& tensor) {
  Tensor values = at::empty(tensor.shape, at::kFloat);
  read_floats(tensor, 0, tensor.values, values.mutable_data_ptr<float>());
  return values;
}

bool add_permutation(Subject& subject, const std::string& name, Transform& transform,
                     std::vector<std::string>& used) {
  const ArtifactTensor* tensor = site_tensor(subject, name, "I32", 1, used);
  if (tensor == nullptr) return false;
  Tensor index = at::empty(tensor->shape, at::kLong);
  auto* out = index.mutable_data_ptr<int64_t>();
  std::vector<bool> seen(static_cast<size_t>(tensor->values));
  bool valid = true;
  for (int64_t i = 0; i < tensor->values; ++i) {
    int32_t value = 0;
    std::memcpy(&value, tensor->data() + 4 * i, sizeof(value));
    valid = valid && value >= 0 && value < tensor->values && !seen[static_cast<size_t>(value)];
    if (valid) seen[static_cast<size_t>(value)] = true;
    out[i] = value;
  }
  if (!valid)
    subject.findings.add(name, "is no permutation of its " + std::to_string(tensor->values) + " channels");
  transform.stages.emplace_back(Permutation{index});
  return valid;
}

bool add_signs(Subject& subject, const std::string& name, Transform& transform,
               std::vector<std::string>& used) {
  const ArtifactTensor* tensor = site_tensor(subject, name, "I8", 1, used);
  if (tensor == nullptr) return false;
  Tensor values = at::empty(tensor->shape, at::kFloat);
  bool valid = true;
  for (int64_t i = 0; i < tensor->values; ++i) {
    const int sign = static_cast<int8_t>(tensor->data()[i]);
    valid = valid && (sign == 1 || sign == -1);
    values.mutable_data_ptr<float>()[i] = static_cast<float>(sign);
  }
  if (!valid) subject.findings.add(name, "has entries other than +1 and -1");
  transform.stages.emplace_back(Signs{values});
  return valid;
}

// The rotations of a site lie in one tensor, in order.
bool add_rotation(Subject& subject, const std::string& name, int64_t index, Transform& transform,
                  std::vector<std::string>& used) {
  const ArtifactTensor* tensor = site_tensor(subject, name, "F32", 3, used);
  if (tensor == nullptr) return false;
  if (tensor->shape[1] != tensor->shape[2] || index >= tensor->shape[0]) {
    subject.findings.add(name, "has shape " + shape_text(tensor->shape) + "; rotation " +
                                   std::to_string(index) + " of a site is wanted");
    return false;
  }
  const BlockRotation rotation{float_tensor(*tensor)[index].contiguous()};
  transform.stages.emplace_back(rotation);
  const double error = Transform{{rotation}}.orthogonality_error();
  if (error < kOrthogonality) return true;
  subject.findings.add(name, "rotation " + std::to_string(index) + " is not orthogonal: R R^T is off by " +
                                 std::to_string(error));
  return false;
}

// The stages of a site. Returns false, with findings, if one is not what it must be.
bool read_stages(Subject& subject, const std::string& key, const Json& json, Transform& transform,
                 std::vector<std::string>& used) {
  Json stages = json.value("transform", Json::array());
  if (json.contains("hadamard")) {  // version 1
    stages.push_back(json.at("hadamard"));
    stages.back()["type"] = "hadamard";
  }
  int64_t rotations = 0, permutations = 0, signs = 0;
  const auto numbered = [&](const char* suffix, int64_t index) {
    return key + suffix + (index == 0 ? "" : "_" + std::to_string(index));
  };
  bool valid = true;
  for (Json stage : stages) {
    const std::string type = stage.at("type").get<std::string>();
    stage.erase("type");
    if (type == "hadamard") {
      valid = subject.findings.guard(key, [&] {
        transform.stages.emplace_back(hadamard_from_json(stage, key));
      }) && valid;
    } else if (type == "rotation") {
      valid = add_rotation(subject, key + ".rotation", rotations++, transform, used) && valid;
    } else if (type == "permutation") {
      valid = add_permutation(subject, numbered(".permutation", permutations++), transform, used) && valid;
    } else {
      valid = add_signs(subject, numbered(".signs", signs++), transform, used) && valid;
    }
  }
  const auto stored = subject.tensors.find(key + ".rotation");
  if (rotations > 0 && stored != subject.tensors.end() && !stored->second.shape.empty() &&
      stored->second.shape[0] != rotations) {
    subject.findings.add(key + ".rotation", "has " + std::to_string(stored->second.shape[0]) +
                                                " rotations; the configuration names " +
                                                std::to_string(rotations));
  }
  return valid;
}

int64_t channels_read(Block& block, const Site& site, bool& by_linear) {
  for (const Linear* linear : block.linears()) {
    if (linear->site != site.name) continue;
    by_linear = true;
    return linear->weight.size(1);
  }
  by_linear = false;
  return site.head_dim;
}

bool is_positive(const Tensor& values) {
  return (at::isfinite(values) & (values > 0)).all().item<bool>();
}

}  // namespace

bool lists_all(const Subject& subject) {
  return subject.quantization.at("format_version").get<int64_t>() >= kListsAll;
}

void check_site(Subject& subject, Block& block, const Site& site, Listing& listing,
                std::vector<std::string>& used) {
  const std::string key = site_key(block.prefix(), site.name);
  const Json& sites = subject.quantization.at("sites");
  if (!sites.contains(key)) {
    if (lists_all(subject) && site.kind != kStateSite)
      subject.findings.add(key, "has no entry in quantization_config");
    return;
  }
  const Json& json = sites.at(key);
  if (lists_all(subject)) check_keys(subject, key, json, site);
  ++subject.counts.sites;
  SiteForm& form = listing.sites[key];
  if (json.at("quantizer") == "static") {
    const ArtifactTensor* scale = site_tensor(subject, key + ".scale", "F32", 1, used);
    const auto scales = json.value("channels", int64_t{1});
    if (scales != 1 && scales != site.channels)
      subject.findings.add(
          key, "has scales for " + std::to_string(scales) + " channels of " + std::to_string(site.channels));
    if (scale != nullptr && (scale->values != scales || !is_positive(float_tensor(*scale))))
      subject.findings.add(key + ".scale",
                           scales == 1 ? "is not one positive and finite number"
                                       : "is not " + std::to_string(scales) + " positive and finite numbers");
  }
  if (json.at("quantizer") != "none" && !json.contains("bits")) subject.findings.add(key, "has no bits");
  if (json.contains("group") && json.at("group") != site.head_dim)
    subject.findings.add(key, "rounds groups of " + json.at("group").dump() + " where heads have " +
                                  std::to_string(site.head_dim));
  bool by_linear = false;
  const int64_t channels = channels_read(block, site, by_linear);
  if (!read_stages(subject, key, json, form.transform, used)) form.transform.stages.clear();
  const bool placed = (by_linear && !site.shared) || site.head_dim > 0;
  if (!form.transform.empty() && (!placed || !form.transform.fits(channels))) {
    subject.findings.add(key, "the transform (" + transform_text(form.transform) + ") does not fit the site");
    form.transform.stages.clear();
  }
  const bool smoothed =
      lists_all(subject) ? json.value("smooth", false) : subject.tensors.contains(key + ".smooth");
  if (!smoothed) return;
  const ArtifactTensor* smooth = site_tensor(subject, key + ".smooth", "F32", 1, used);
  if (smooth == nullptr) return;
  const Tensor values = float_tensor(*smooth);
  if (smooth->values != channels || !is_positive(values)) {
    subject.findings.add(key + ".smooth", "is not one positive and finite number for each of " +
                                              std::to_string(channels) + " channels");
    return;
  }
  form.smooth = values;
}

}  // namespace ptq
