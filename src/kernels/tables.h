// The tables that dispatch.cpp chooses from. Includes nothing but the contract, because files compiled for
// one instruction set include it: an inline function of the standard library compiled there could be the copy
// that the linker keeps for the whole program.
#pragma once

#include "ptq/kernels/kernels.h"

namespace ptq::kernels {

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace ptq::kernels
