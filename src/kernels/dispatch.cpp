// Which candidates there are, and which of them this machine runs. To add one: define run<isa, Operands>() in
// a file of its own, add its row here.
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/tables.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq::kernels {
namespace {

bool always() {
  return true;
}

#ifdef PTQ_KERNELS_X86
// The compiler's builtins ask CPUID, and XGETBV whether the system saves the wide registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avxvnni() {
  return has_avx2() && __builtin_cpu_supports("avxvnni");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

struct IsaRow {
  Isa isa;
  const char* name;
  bool (*supported)();
};

// In the order of the enumeration.
constexpr IsaRow kIsas[] = {
    {Isa::kPlain, "plain", always},
#ifdef PTQ_KERNELS_X86
    {Isa::kAvx2, "avx2", has_avx2},       {Isa::kAvxVnni, "avxvnni", has_avxvnni},
    {Isa::kAvx512, "avx512", has_avx512}, {Isa::kAvx512Vnni, "avx512vnni", has_avx512vnni},
#endif
};

Isa choose() {
  std::vector<std::string> names;
  Isa highest = Isa::kPlain;
  for (const IsaRow& row : kIsas) {
    if (!supports(row.isa)) continue;
    names.emplace_back(row.name);
    highest = row.isa;
  }
  const char* forced = std::getenv("PTQ_ISA");
  if (forced == nullptr || *forced == 0) return highest;
  const std::string name = forced;
  for (const IsaRow& row : kIsas) {
    if (name != row.name) continue;
    if (supports(row.isa)) return row.isa;
    throw usage_error("PTQ_ISA", "this machine cannot run '" + name + "'", suggest(name, names));
  }
  throw usage_error("PTQ_ISA", "unknown instruction set '" + name + "'", suggest(name, names));
}

// Plain loops, AVX2 and AVX-512.
template <typename Operands>
std::span<const Candidate<Operands>> float_candidates() {
  static constexpr Candidate<Operands> rows[] = {
      {Isa::kPlain, run<Isa::kPlain, Operands>},
#ifdef PTQ_KERNELS_X86
      {Isa::kAvx2, run<Isa::kAvx2, Operands>},
      {Isa::kAvx512, run<Isa::kAvx512, Operands>},
#endif
  };
  return rows;
}

}  // namespace

const char* isa_name(Isa isa) {
  return kIsas[static_cast<size_t>(isa)].name;
}

bool supports(Isa isa) {
  static const std::vector<bool> supported = [] {
    std::vector<bool> all;
    for (const IsaRow& row : kIsas) all.push_back(row.supported());
    return all;
  }();
  return supported[static_cast<size_t>(isa)];
}

Isa highest_isa() {
  static const Isa highest = choose();
  return highest;
}

template <>
std::span<const Candidate<SelectiveScan>> candidates() {
  return float_candidates<SelectiveScan>();
}
template <>
std::span<const Candidate<SsdScan>> candidates() {
  return float_candidates<SsdScan>();
}
template <>
std::span<const Candidate<CausalConv>> candidates() {
  return float_candidates<CausalConv>();
}
template <>
std::span<const Candidate<Hadamard>> candidates() {
  return float_candidates<Hadamard>();
}
template <>
std::span<const Candidate<QuantizeCodes>> candidates() {
  return float_candidates<QuantizeCodes>();
}
template <>
std::span<const Candidate<RoundToCodes>> candidates() {
  return float_candidates<RoundToCodes>();
}
template <>
std::span<const Candidate<QuantizeAsymmetric>> candidates() {
  return float_candidates<QuantizeAsymmetric>();
}
template <>
std::span<const Candidate<AbsMaxRows>> candidates() {
  return float_candidates<AbsMaxRows>();
}
template <>
std::span<const Candidate<RmsNorm>> candidates() {
  return float_candidates<RmsNorm>();
}
template <>
std::span<const Candidate<GatherColumns>> candidates() {
  return float_candidates<GatherColumns>();
}
template <>
std::span<const Candidate<RoundColumns>> candidates() {
  return float_candidates<RoundColumns>();
}
template <>
std::span<const Candidate<WidenRows>> candidates() {
  return float_candidates<WidenRows>();
}
template <>
std::span<const Candidate<StoredProduct>> candidates() {
  return float_candidates<StoredProduct>();
}
template <>
std::span<const Candidate<WeightedRows>> candidates() {
  return float_candidates<WeightedRows>();
}
template <>
std::span<const Candidate<Softmax>> candidates() {
  return float_candidates<Softmax>();
}

// Vectors of floats are of no use to it.
template <>
std::span<const Candidate<ProductExtremes>> candidates() {
  static constexpr Candidate<ProductExtremes> rows[] = {
      {Isa::kPlain, run<Isa::kPlain, ProductExtremes>},
#ifdef PTQ_KERNELS_X86
      {Isa::kAvx512Vnni, run<Isa::kAvx512Vnni, ProductExtremes>},
#endif
  };
  return rows;
}

template <>
std::span<const Candidate<CodeProduct>> candidates() {
  static constexpr Candidate<CodeProduct> rows[] = {
      {Isa::kPlain, run<Isa::kPlain, CodeProduct>},
#ifdef PTQ_KERNELS_X86
      {Isa::kAvx2, run<Isa::kAvx2, CodeProduct>},
      {Isa::kAvxVnni, run<Isa::kAvxVnni, CodeProduct>},
      {Isa::kAvx512Vnni, run<Isa::kAvx512Vnni, CodeProduct>},
#endif
  };
  return rows;
}

}  // namespace ptq::kernels
