// Schemas, registration, and the public functions, which go through the dispatcher so that the device of the
// tensors picks the kernel.
//
// The registrations share this file with the public functions: a linker takes an object out of a static
// library only for a symbol somebody calls, and would drop a file of registrations alone.
#include "ptq/ops/ops.h"

#include <torch/headeronly/version.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "ops/cpu.h"
#include "ops/fallback.h"
#include "ptq/kernels/kernels.h"

// The system may carry headers of a much older libtorch.
static_assert(TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 213, "libtorch 2.13 or newer is needed");

namespace ptq::ops {
namespace {

TORCH_LIBRARY(ptq, library) {
  library.def(
      "selective_scan(Tensor u, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, Tensor z, Tensor(a!)? h) "
      "-> Tensor");
  library.def(
      "ssd_scan(Tensor u, Tensor dt, Tensor B, Tensor C, Tensor A, Tensor dt_bias, Tensor D, float "
      "delta_low, "
      "float delta_high, int groups, Tensor(a!)? h) -> Tensor");
  library.def("causal_conv1d_silu(Tensor x, Tensor weight, Tensor? bias, Tensor(a!)? window) -> Tensor");
  library.def("hadamard(Tensor x, Tensor left, int block) -> Tensor");
  library.def("quantize_codes(Tensor x, Tensor scale, int low, int high) -> (Tensor, Tensor)");
  library.def("round_to_codes(Tensor x, Tensor scale, int low, int high) -> Tensor");
  library.def("quantize_symmetric(Tensor x, int bits, float clip, int group) -> (Tensor, Tensor)");
  library.def("quantize_asymmetric(Tensor x, int bits, float clip, int group) -> (Tensor, Tensor, Tensor)");
  library.def("abs_max_rows(Tensor x) -> Tensor");
  library.def("rms_norm(Tensor x, Tensor gain, float eps, int groups) -> Tensor");
  library.def("gather_columns(Tensor x, Tensor index) -> Tensor");
}

TORCH_LIBRARY_IMPL(ptq, CompositeExplicitAutograd, library) {
  library.impl("selective_scan", fallback::selective_scan);
  library.impl("ssd_scan", fallback::ssd_scan);
  library.impl("causal_conv1d_silu", fallback::causal_conv1d_silu);
  library.impl("hadamard", fallback::hadamard);
  library.impl("quantize_codes", fallback::quantize_codes);
  library.impl("round_to_codes", fallback::round_to_codes);
  library.impl("quantize_symmetric", fallback::quantize_symmetric);
  library.impl("quantize_asymmetric", fallback::quantize_asymmetric);
  library.impl("abs_max_rows", fallback::abs_max_rows);
  library.impl("rms_norm", fallback::rms_norm);
  library.impl("gather_columns", fallback::gather_columns);
}

TORCH_LIBRARY_IMPL(ptq, CPU, library) {
  library.impl("selective_scan", cpu::selective_scan);
  library.impl("ssd_scan", cpu::ssd_scan);
  library.impl("causal_conv1d_silu", cpu::causal_conv1d_silu);
  library.impl("hadamard", cpu::hadamard);
  library.impl("quantize_codes", cpu::quantize_codes);
  library.impl("round_to_codes", cpu::round_to_codes);
  library.impl("quantize_symmetric", cpu::quantize_symmetric);
  library.impl("quantize_asymmetric", cpu::quantize_asymmetric);
  library.impl("abs_max_rows", cpu::abs_max_rows);
  library.impl("rms_norm", cpu::rms_norm);
  library.impl("gather_columns", cpu::gather_columns);
}

// The signature is read off the fallback, which has the schema's.
template <typename Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name, Signature*) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

OptionalTensor if_defined(const Tensor& tensor) {
  return tensor.defined() ? OptionalTensor(tensor) : std::nullopt;
}

}  // namespace

Tensor selective_scan(const Tensor& u, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
                      const Tensor& D, const Tensor& z, const Tensor& h) {
  static const auto op = find_op("ptq::selective_scan", fallback::selective_scan);
  return op.call(u, dt, A, B, C, D, z, if_defined(h));
}

Tensor ssd_scan(const Tensor& u, const Tensor& dt, const Tensor& B, const Tensor& C, const SsdHeads& heads,
                const Tensor& h) {
  static const auto op = find_op("ptq::ssd_scan", fallback::ssd_scan);
  return op.call(u, dt, B, C, heads.A, heads.dt_bias, heads.D, heads.delta_low, heads.delta_high,
                 heads.groups, if_defined(h));
}

Tensor causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& window) {
  static const auto op = find_op("ptq::causal_conv1d_silu", fallback::causal_conv1d_silu);
  return op.call(x, weight, if_defined(bias), if_defined(window));
}

Tensor hadamard(const Tensor& x, const Tensor& left, int64_t block) {
  static const auto op = find_op("ptq::hadamard", fallback::hadamard);
  return op.call(x, left, block);
}

std::tuple<Tensor, Tensor> quantize_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  static const auto op = find_op("ptq::quantize_codes", fallback::quantize_codes);
  return op.call(x, scale, low, high);
}

Tensor round_to_codes(const Tensor& x, const Tensor& scale, int64_t low, int64_t high) {
  static const auto op = find_op("ptq::round_to_codes", fallback::round_to_codes);
  return op.call(x, scale, low, high);
}

std::tuple<Tensor, Tensor> quantize_symmetric(const Tensor& x, int64_t bits, double clip, int64_t group) {
  static const auto op = find_op("ptq::quantize_symmetric", fallback::quantize_symmetric);
  return op.call(x, bits, clip, group);
}

std::tuple<Tensor, Tensor, Tensor> quantize_asymmetric(const Tensor& x, int64_t bits, double clip,
                                                       int64_t group) {
  static const auto op = find_op("ptq::quantize_asymmetric", fallback::quantize_asymmetric);
  return op.call(x, bits, clip, group);
}

Tensor abs_max_rows(const Tensor& x) {
  static const auto op = find_op("ptq::abs_max_rows", fallback::abs_max_rows);
  return op.call(x);
}

// A largest magnitude shows NaN as well as infinity.
bool all_finite(const Tensor& x) {
  const Tensor maxima = abs_max_rows(x).cpu();
  const auto* data = maxima.const_data_ptr<float>();
  return std::all_of(data, data + maxima.numel(), [](float maximum) { return std::isfinite(maximum); });
}

Tensor rms_norm(const Tensor& x, const Tensor& gain, double eps, int64_t groups) {
  static const auto op = find_op("ptq::rms_norm", fallback::rms_norm);
  return op.call(x, gain, eps, groups);
}

Tensor gather_columns(const Tensor& x, const Tensor& index) {
  static const auto op = find_op("ptq::gather_columns", fallback::gather_columns);
  return op.call(x, index);
}

const char* isa_name() {
  return kernels::isa_name(kernels::highest_isa());
}

}  // namespace ptq::ops
