// What dispatch.cpp lists as candidates. Includes nothing but the contract, because files compiled for one
// instruction set include it: an inline function of the standard library compiled there could be the copy
// that the linker keeps for the whole program.
#pragma once

#include "ptq/kernels/kernels.h"

namespace ptq::kernels {

// An operation on an instruction set: specialized in the file that is compiled for it.
template <Isa isa, typename Operands>
void run(const Operands& operands);

}  // namespace ptq::kernels
