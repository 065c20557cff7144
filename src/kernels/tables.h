// The tables that dispatch.cpp chooses from. Includes nothing but the contract, because files compiled for
// one instruction set include it: an inline function of the standard library compiled there could be the copy
// that the linker keeps for the whole program.
#pragma once

#include "ptq/kernels/kernels.h"

namespace ptq::kernels {

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;  // for processors without VNNI

// The forms of product_extremes. Vectors of floats are of no use to it, so all tables have the plain loops,
// except on processors with AVX-512 VNNI.
void plain_product_extremes(const ProductExtremes& s);
void vnni_product_extremes(const ProductExtremes& s);

}  // namespace ptq::kernels
