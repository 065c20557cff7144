#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/tables.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq::kernels {
namespace {

#ifdef PTQ_KERNELS_X86
// The compiler's builtins ask CPUID, and XGETBV whether the system saves the wide registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

// VNNI came three years after the rest of AVX-512, and one kernel has a use for it: no table of its own.
const Kernels& avx512_kernels() {
  static const Kernels table = [] {
    Kernels best = kAvx512Kernels;
    if (__builtin_cpu_supports("avx512vnni")) {
      best.product_extremes = vnni_product_extremes;
      best.fast_product_extremes = true;
    }
    return best;
  }();
  return table;
}
#endif

const Kernels& choose() {
  const KernelList supported = supported_kernels();
  const char* forced = std::getenv("PTQ_ISA");
  if (!forced || !*forced) return *supported.tables[supported.size - 1];
  std::vector<std::string> names;
  for (const Kernels* table : supported) {
    if (std::string(table->isa) == forced) return *table;
    names.emplace_back(table->isa);
  }
  const std::string name = forced;
  if (name == "avx2" || name == "avx512")
    throw usage_error("PTQ_ISA", "this machine cannot run '" + name + "'", suggest(name, names));
  throw usage_error("PTQ_ISA", "unknown instruction set '" + name + "'", suggest(name, names));
}

}  // namespace

KernelList supported_kernels() {
  KernelList list{{&kScalarKernels, nullptr, nullptr}, 1};
#ifdef PTQ_KERNELS_X86
  __builtin_cpu_init();
  if (has_avx2()) list.tables[list.size++] = &kAvx2Kernels;
  if (has_avx512()) list.tables[list.size++] = &avx512_kernels();
#endif
  return list;
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace ptq::kernels
