// One stored tensor of a model, and where such tensors come from.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/ops/stored_weight.h"

namespace ptq {

enum class Role {
  kEmbedding,
  kHead,
  kNorm,
  kLinear,
  kBias,
  kConv,
  kDecay,  // A_log
  kSkip,   // D
  kPositions,
};

const char* role_name(Role role);

// A tensor of the model: floats, or codes.
class Weight {
 public:
  std::string name;  // as the source names it, with ".weight"
  Role role = Role::kLinear;
  at::ScalarType stored = at::kHalf;  // dtype on disk while it is float
  // Rows of each kind, in order, such as those of a Mamba-2's in_proj that make z, x, B, C and dt: a scale
  // for a tensor is one for each. Empty: all of one kind.
  std::vector<int64_t> row_parts;

  Weight() = default;
  // `floats`: float32, or in the dtype `stored_as`, of any shape.
  Weight(std::string own_name, Role own_role, Tensor floats, at::ScalarType stored_as)
      : name(std::move(own_name)), role(own_role), stored(stored_as), data_(std::move(floats)) {}

  // The codes; null while the weight is float.
  const QuantizedTensor* quantized() const { return std::get_if<QuantizedTensor>(&data_); }
  at::IntArrayRef sizes() const { return tensor().sizes(); }
  int64_t size(int64_t dim) const { return tensor().size(dim); }
  int64_t numel() const { return tensor().numel(); }
  at::Device device() const { return tensor().device(); }
  // float32, on the weight's device: what the weight stands for. Float32 is the weight's own tensor; codes
  // are dequantized and others widened at every call, unless keep_values() was called.
  Tensor values() const;
  // For products with float activations, without a copy where that is possible.
  StoredWeight as_stored() const;
  // From here on, until set(), values() of codes are made once and kept beside them: for small weights that
  // every forward reads.
  void keep_values();

  // Replaces floats or codes. Other weights that share the tensors keep them.
  void set(Tensor floats);
  void set(QuantizedTensor codes);
  // Gives up floats or codes, where a product holds all that is needed. values() are on the meta device then.
  void release();
  // Rounds floats to their stored dtype, so that what is measured is what will be read back. No-op for codes.
  void round_to_stored_dtype();

 private:
  const Tensor& tensor() const;

  std::variant<Tensor, QuantizedTensor> data_;
  Tensor kept_values_;
};

// Where the weights of a block are read from: a float checkpoint, or an artifact with codes.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const TensorInfo* find(const std::string& name) const = 0;
  // Reads one tensor onto `device()`; float64 becomes float32. Throws Error if it is missing, its shape
  // differs from `shape`, its dtype cannot be a weight, or a value is NaN or infinite.
  virtual Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const = 0;
  // Names of all tensors, sorted; a quantized one counts once, under the name of the weight it stands for.
  virtual std::vector<std::string> names() const = 0;
  virtual const Json& config() const = 0;
  // True if the two names are stored once and shared.
  virtual bool tied(const std::string& a, const std::string& b) const = 0;
  virtual at::Device device() const = 0;
};

// In which form a source gives large tensors of 16-bit floats: matrices of linears, embedding and head.
enum class Floats {
  kFloat32,  // to compute with and to rewrite
  kStored,   // to run: the mapped file itself, on the CPU
};

// Reads the float tensors of a checkpoint. `checkpoint` must outlive it. Pages behind a tensor that was read,
// or is given up, are dropped, so resident memory does not grow with the model. On the meta device nothing is
// read: values have shapes but no storage, and what headers show to be wrong is an Error as elsewhere.
class FloatSource : public WeightSource {
 public:
  FloatSource(const Checkpoint& checkpoint, at::Device device, Floats floats = Floats::kFloat32)
      : checkpoint_(checkpoint), device_(device), floats_(floats) {}
  const TensorInfo* find(const std::string& name) const override { return checkpoint_.find(name); }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override;
  const Json& config() const override { return checkpoint_.config(); }
  bool tied(const std::string& a, const std::string& b) const override;
  at::Device device() const override { return device_; }

 private:
  bool gives_stored(Role role, DType dtype) const;

  const Checkpoint& checkpoint_;
  at::Device device_;
  Floats floats_;
};

// The libtorch dtype of a checkpoint's dtype. Throws Error, naming the tensor, for one that libtorch lacks.
at::ScalarType scalar_type(DType dtype, const std::string& tensor_name);

// The bytes as a tensor that borrows them and keeps their owner alive.
Tensor as_tensor(const TensorBytes& bytes);

// "[2048, 256]".
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace ptq
