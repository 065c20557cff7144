// The kernels compiled for AVX-512 (F, BW, VL, DQ). Includes no header whose inline functions could end up in
// the rest of the program: they would be compiled for this instruction set.
#include "kernels/tables.h"
#include "kernels/vec_avx512.h"
#include "kernels/vector_conv.h"
#include "kernels/vector_hadamard.h"
#include "kernels/vector_round_columns.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_scan.h"
#include "kernels/vector_ssd.h"

namespace ptq::kernels {

template <>
void run<Isa::kAvx512>(const SelectiveScan& s) {
  selective_scan(s);
}
template <>
void run<Isa::kAvx512>(const SsdScan& s) {
  ssd_scan(s);
}
template <>
void run<Isa::kAvx512>(const CausalConv& s) {
  causal_conv1d_silu(s);
}
template <>
void run<Isa::kAvx512>(const Hadamard& s) {
  hadamard(s);
}
template <>
void run<Isa::kAvx512>(const QuantizeCodes& s) {
  quantize_codes(s);
}
template <>
void run<Isa::kAvx512>(const RoundToCodes& s) {
  round_to_codes(s);
}
template <>
void run<Isa::kAvx512>(const QuantizeAsymmetric& s) {
  quantize_asymmetric(s);
}
template <>
void run<Isa::kAvx512>(const AbsMaxRows& s) {
  abs_max_rows(s);
}
template <>
void run<Isa::kAvx512>(const RmsNorm& s) {
  rms_norm(s);
}
template <>
void run<Isa::kAvx512>(const GatherColumns& s) {
  gather_columns(s);
}
template <>
void run<Isa::kAvx512>(const RoundColumns& s) {
  round_columns(s);
}

}  // namespace ptq::kernels
