// Reads a model whose linears another program stores in codes, and everything else in float: what the readers
// of such formats share.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"

namespace ptq {

inline constexpr const char* kWeight = ".weight";

// `name` without what it ends with; "" if it does not.
std::string without(const std::string& name, const std::string& end);

// Throws Error unless the tensor has that form.
void expect_form(const TensorInfo& info, DType dtype, const std::vector<int64_t>& shape);

// The scales of that name, in float32. Throws Error unless they are floats of that shape (one value may have
// no dimension), finite, and positive, or not negative if zero is allowed.
Tensor read_scales(const Checkpoint& checkpoint, const std::string& name, const std::vector<int64_t>& shape,
                   bool zero_allowed = false);

class CodedSource : public WeightSource {
 public:
  const TensorInfo* find(const std::string& name) const override;
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override;
  std::vector<std::string> names() const override;
  const Json& config() const override { return checkpoint_.config(); }
  bool tied(const std::string& a, const std::string& b) const override { return floats_.tied(a, b); }
  at::Device device() const override { return floats_.device(); }

  // Throws Error unless what is in codes are linears of blocks of the architecture, and the linears that the
  // configuration claims are among them. Reads no values.
  void check_complete() const;

 protected:
  // `parts`: what the names of a linear's tensors end with, after its own name. `checkpoint` must outlive it.
  CodedSource(const Checkpoint& checkpoint, at::Device device, std::vector<std::string> parts);
  // A linear in codes [out, in].
  void add(const std::string& linear, const std::vector<int64_t>& shape, const WeightScheme& scheme);
  // To be called after the last add(): all that is no part of a linear in codes is float.
  void add_floats();

  // What was added, on the CPU. Throws Error for values that are none of the scheme.
  virtual QuantizedTensor read_codes(const std::string& linear, const WeightScheme& scheme,
                                     const std::vector<int64_t>& shape) const = 0;
  // Whether the configuration says that the linear of that name is in codes. By default it says nothing.
  virtual bool claims(const std::string&) const { return false; }

  const Checkpoint& checkpoint() const { return checkpoint_; }
  bool is_in_codes(const std::string& linear) const { return in_codes_.contains(linear); }
  // The tensor LINEAR + part. Throws Error if it is missing.
  const TensorInfo& part(const std::string& linear, const char* part) const;

 private:
  const Checkpoint& checkpoint_;
  FloatSource floats_;
  std::vector<std::string> parts_;
  std::map<std::string, TensorInfo> weights_;     // logical, by the name of the weight
  std::map<std::string, WeightScheme> in_codes_;  // by the name of the linear
};

// The model of a source that reads `checkpoint`. Throws Error as CodedSource::check_complete(), and for
// tensors that nothing reads.
OpenModel open_coded(std::unique_ptr<Checkpoint> checkpoint, std::unique_ptr<CodedSource> source,
                     const Model::OnLoad& on_load = {});

}  // namespace ptq
