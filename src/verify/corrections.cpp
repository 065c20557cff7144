// Low-rank terms: X.lora_A [rank, in], X.lora_B [out, rank], floats, or codes of 8 bits with a scale a rank.
#include <cmath>

#include "ptq/artifact/format.h"
#include "verify/parts.h"

namespace ptq {
namespace {

const ArtifactTensor* find_factor(Subject& subject, const std::string& name,
                                  const std::vector<int64_t>& shape, std::vector<std::string>& used) {
  const ArtifactTensor* tensor = find_tensor(subject.tensors, name, used, subject.findings);
  if (tensor == nullptr || tensor->shape == shape) return tensor;
  subject.findings.add(
      name, "has the shape " + shape_text(tensor->shape) + " where the correction has " + shape_text(shape));
  return nullptr;
}

void check_values(Subject& subject, const ArtifactTensor& tensor, bool positive) {
  if (tensor.dtype != "F32" && tensor.dtype != "F16" && tensor.dtype != "BF16") {
    subject.findings.add(tensor.name, "is " + tensor.dtype + " where floats are needed");
    return;
  }
  const int64_t item = tensor.dtype == "F32" ? 4 : 2;
  int64_t bad = 0;
  for (int64_t i = 0; i < tensor.values; ++i) {
    const float value = float_at(tensor.dtype, tensor.data() + i * item);
    bad += std::isfinite(value) && (!positive || value > 0) ? 0 : 1;
  }
  if (bad == 0) return;
  subject.findings.add(tensor.name, std::to_string(bad) + " of " + std::to_string(tensor.values) +
                                        " values are " +
                                        (positive ? "not positive and finite" : "NaN or infinite"));
}

void check_factor(Subject& subject, const std::string& name, const std::vector<int64_t>& shape, int64_t rank,
                  std::vector<std::string>& used) {
  const ArtifactTensor* factor = find_factor(subject, name, shape, used);
  if (factor == nullptr) return;
  if (factor->dtype != "I8") {
    check_values(subject, *factor, /*positive=*/false);
    factor->drop();
    return;
  }
  const ArtifactTensor* scales = find_factor(subject, name + kScaleSuffix, {rank}, used);
  if (scales != nullptr) check_values(subject, *scales, /*positive=*/true);
}

}  // namespace

const Json& corrections_of(const Subject& subject) {
  static const Json none = Json::object();
  const auto found = subject.quantization.find("corrections");
  return found == subject.quantization.end() ? none : *found;
}

std::vector<std::string> correction_tensors(const Subject& subject) {
  std::vector<std::string> names;
  for (const auto& [layer, json] : corrections_of(subject).items()) {
    for (const std::string factor : {kLoraASuffix, kLoraBSuffix}) {
      names.push_back(layer + factor);
      names.push_back(layer + factor + kScaleSuffix);
    }
  }
  return names;
}

void check_correction(Subject& subject, const Linear& linear, std::vector<std::string>& used) {
  const Json& corrections = corrections_of(subject);
  const auto found = corrections.find(linear.name);
  if (found == corrections.end()) return;
  const auto rank = found->at("rank").get<int64_t>();
  const int64_t out = linear.weight.size(0), in = linear.weight.size(1);
  check_factor(subject, linear.name + kLoraASuffix, {rank, in}, rank, used);
  check_factor(subject, linear.name + kLoraBSuffix, {out, rank}, rank, used);
}

}  // namespace ptq
