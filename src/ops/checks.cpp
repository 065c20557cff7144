#include "ops/checks.h"

#include <ATen/core/grad_mode.h>

#include <bit>

namespace ptq::ops {
namespace {

// One op's view of its arguments: the first one sets the device.
class Arguments {
 public:
  Arguments(const char* op, const Tensor& first) : op_(op), first_(first) {}

  void expect(const char* name, const Tensor& tensor, at::IntArrayRef shape) const {
    expect_float(name, tensor);
    TORCH_CHECK(tensor.sizes() == shape, "ptq::", op_, ": ", name, " has shape ", tensor.sizes(),
                ", expected ", shape);
  }

  void expect_float(const char* name, const Tensor& tensor) const {
    TORCH_CHECK(tensor.defined(), "ptq::", op_, ": ", name, " is undefined");
    TORCH_CHECK(tensor.scalar_type() == at::kFloat, "ptq::", op_, ": ", name, " is ", tensor.scalar_type(),
                ", expected Float");
    TORCH_CHECK(tensor.device() == first_.device(), "ptq::", op_, ": ", name, " is on ", tensor.device(),
                ", expected ", first_.device());
    TORCH_CHECK(!(tensor.requires_grad() && at::GradMode::is_enabled()), "ptq::", op_, ": ", name,
                " requires grad, and the op has no backward");
  }

  void expect_dims(const char* name, const Tensor& tensor, int64_t dims) const {
    expect_float(name, tensor);
    TORCH_CHECK(tensor.dim() == dims, "ptq::", op_, ": ", name, " has shape ", tensor.sizes(), ", expected ",
                dims, " dimensions");
  }

  // At least one dimension, and a last one that is not empty.
  void expect_rows(const char* name, const Tensor& tensor) const {
    expect_float(name, tensor);
    TORCH_CHECK(tensor.dim() >= 1 && tensor.size(-1) > 0, "ptq::", op_, ": ", name, " has shape ",
                tensor.sizes(), ", expected a last dimension that is not empty");
  }

 private:
  const char* op_;
  const Tensor& first_;
};

void check_code_range(const std::string& op, int64_t low, int64_t high) {
  TORCH_CHECK(low <= high, "ptq::", op, ": low ", low, " is above high ", high);
  TORCH_CHECK(low >= -128 && high <= 127, "ptq::", op, ": the range ", low, " to ", high,
              " has codes that int8 cannot hold");
}

void check_dynamic(const char* op, const Tensor& x, int64_t bits, double clip, int64_t group) {
  Arguments(op, x).expect_rows("x", x);
  TORCH_CHECK(bits >= 2 && bits <= 8, "ptq::", op, ": ", bits, " bits, expected 2 to 8");
  TORCH_CHECK(clip > 0 && clip <= 1, "ptq::", op, ": the clip factor ", clip, " is not in (0, 1]");
  TORCH_CHECK(group >= 0 && (group == 0 || x.size(-1) % group == 0), "ptq::", op, ": ", x.size(-1),
              " columns do not divide into groups of ", group);
}

}  // namespace

void check_selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B,
                          const Tensor& C, const Tensor& D, const Tensor& z, const OptionalTensor& h) {
  const Arguments arguments("selective_scan", u);
  arguments.expect_dims("u", u, 3);
  arguments.expect_dims("A", A, 2);
  const int64_t batch = u.size(0), length = u.size(1), inner = u.size(2), state = A.size(1);
  TORCH_CHECK(state >= 1, "ptq::selective_scan: A has shape ", A.sizes(), ", expected a state of at least 1");
  arguments.expect("dt", dt, u.sizes());
  arguments.expect("A", A, {inner, state});
  arguments.expect("B", B, {batch, length, state});
  arguments.expect("C", C, {batch, length, state});
  arguments.expect("D", D, {inner});
  arguments.expect("z", z, u.sizes());
  if (h) arguments.expect("h", *h, {batch, inner, state});
}

void check_ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const Tensor& A,
                    const Tensor& dt_bias, const Tensor& D, double delta_low, double delta_high,
                    int64_t groups, const OptionalTensor& h) {
  const Arguments arguments("ssd_scan", u);
  arguments.expect_dims("u", u, 3);
  arguments.expect_dims("B", B, 3);
  arguments.expect_dims("A", A, 1);
  const int64_t batch = u.size(0), length = u.size(1), inner = u.size(2), heads = A.size(0);
  TORCH_CHECK(heads >= 1 && inner >= 1 && inner % heads == 0, "ptq::ssd_scan: ", inner,
              " channels do not divide into ", heads, " heads");
  TORCH_CHECK(groups >= 1 && heads % groups == 0, "ptq::ssd_scan: ", heads, " heads do not divide into ",
              groups, " groups");
  const int64_t states = B.size(2);
  TORCH_CHECK(states >= 1 && states % groups == 0, "ptq::ssd_scan: B has shape ", B.sizes(),
              ", which does not divide into ", groups, " groups");
  TORCH_CHECK(delta_low <= delta_high, "ptq::ssd_scan: delta_low ", delta_low, " is above delta_high ",
              delta_high);
  arguments.expect("dt", dt, {batch, length, heads});
  arguments.expect("B", B, {batch, length, states});
  arguments.expect("C", C, {batch, length, states});
  arguments.expect("dt_bias", dt_bias, {heads});
  arguments.expect("D", D, {inner});
  if (h) arguments.expect("h", *h, {batch, heads, states / groups, inner / heads});
}

void check_causal_conv1d_silu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                              const OptionalTensor& window) {
  const Arguments arguments("causal_conv1d_silu", x);
  arguments.expect_dims("x", x, 3);
  arguments.expect_dims("weight", weight, 2);
  const int64_t batch = x.size(0), inner = x.size(2), width = weight.size(1);
  TORCH_CHECK(width >= 1, "ptq::causal_conv1d_silu: weight has shape ", weight.sizes(),
              ", expected a width of at least 1");
  arguments.expect("weight", weight, {inner, width});
  if (bias) arguments.expect("bias", *bias, {inner});
  if (window) arguments.expect("window", *window, {batch, width - 1, inner});
}

void check_hadamard(const Tensor& x, const Tensor& left, int64_t block) {
  const Arguments arguments("hadamard", x);
  arguments.expect_rows("x", x);
  arguments.expect_dims("left", left, 2);
  const int64_t m = left.size(0);
  arguments.expect("left", left, {m, m});
  TORCH_CHECK(m >= 1 && block >= m && block % m == 0 && std::has_single_bit(static_cast<uint64_t>(block / m)),
              "ptq::hadamard: a block of ", block, " is not ", m, " * 2^k");
  TORCH_CHECK(x.size(-1) % block == 0, "ptq::hadamard: ", x.size(-1),
              " columns do not divide into blocks of ", block);
}

void check_quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  const Arguments arguments("quantize_codes", x);
  arguments.expect_rows("x", x);
  arguments.expect_float("scale", scale);
  if (scale.numel() != 1) {
    std::vector<int64_t> per_row = x.sizes().vec();
    per_row.back() = 1;
    arguments.expect("scale", scale, per_row);
  }
  check_code_range("quantize_codes", low, high);
}

void check_round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  const Arguments arguments("round_to_codes", x);
  arguments.expect_rows("x", x);
  arguments.expect_float("scale", scale);
  if (scale.numel() != 1) arguments.expect("scale", scale, {x.size(-1)});
  check_code_range("round_to_codes", low, high);
}

void check_quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group) {
  check_dynamic("quantize_symmetric", x, bits, clip, group);
}

void check_quantize_asymmetric(const Tensor& x, int64_t bits, double clip, int64_t group) {
  check_dynamic("quantize_asymmetric", x, bits, clip, group);
}

void check_abs_max_rows(const Tensor& x) {
  Arguments("abs_max_rows", x).expect_rows("x", x);
}

void check_rms_norm(const Tensor& x, const Tensor& gain, int64_t groups) {
  const Arguments arguments("rms_norm", x);
  arguments.expect_rows("x", x);
  TORCH_CHECK(groups >= 1 && x.size(-1) % groups == 0, "ptq::rms_norm: ", x.size(-1),
              " columns do not divide into ", groups, " groups");
  arguments.expect("gain", gain, {x.size(-1)});
}

void check_gather_columns(const Tensor& x, const Tensor& index) {
  Arguments("gather_columns", x).expect_rows("x", x);
  TORCH_CHECK(index.dim() == 1 && index.scalar_type() == at::kLong && index.device() == x.device(),
              "ptq::gather_columns: index has shape ", index.sizes(), " and dtype ", index.scalar_type(),
              ", expected [m] of int64 on the device of x");
}

}  // namespace ptq::ops
