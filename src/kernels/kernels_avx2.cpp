// The kernels compiled for AVX2 with FMA. Includes no header whose inline functions could end up in the rest
// of the program: they would be compiled for this instruction set.
#include "kernels/tables.h"
#include "kernels/vec_avx2.h"
#include "kernels/vector_conv.h"
#include "kernels/vector_hadamard.h"
#include "kernels/vector_round_columns.h"
#include "kernels/vector_rows.h"
#include "kernels/vector_scan.h"

namespace ptq::kernels {

constexpr Kernels kTable = {"avx2",         selective_scan,      causal_conv1d_silu,     hadamard,
                            quantize_codes, quantize_asymmetric, abs_max_rows,           rms_norm,
                            gather_columns, round_columns,       plain_product_extremes, false};
const Kernels kAvx2Kernels = kTable;

}  // namespace ptq::kernels
