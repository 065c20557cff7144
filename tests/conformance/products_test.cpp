// Integer products give the bits of products of the same codes in float32, in every model that any method
// makes: for each instruction set that the machine has, for few and many rows, and for inputs that are rounded
// for the product only.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cases.h"
#include "ptq/engine/evaluate.h"
#include "ptq/kernels/kernels.h"

namespace ptq {
namespace {

// Each instruction set has a process of its own, for which PTQ_TEST_ISA names it: one is chosen for good.
bool machine_has(const char* isa) {
  using kernels::Isa;
  for (const Isa candidate : {Isa::kPlain, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512, Isa::kAvx512Vnni}) {
    if (std::string(isa) == kernels::isa_name(candidate)) return kernels::supports(candidate);
  }
  throw std::runtime_error(std::string("unknown instruction set ") + isa);
}

class EveryProduct : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const char* isa = std::getenv("PTQ_TEST_ISA");
    if (isa == nullptr) return;
    if (!machine_has(isa)) GTEST_SKIP() << "this machine has no " << isa;
    ::setenv("PTQ_ISA", isa, 1);
    ASSERT_STREQ(kernels::isa_name(kernels::highest_isa()), isa);
  }
};

Tensor logits_with(const Model& model, const Tensor& ids, const Compute& compute) {
  return model.logits(run_blocks(model, ids, [] {}, compute));
}

TEST_P(EveryProduct, OfCodesHasTheBitsOfTheSimulatedOne) {
  const Workbench bench(toy_of(GetParam()));
  bench.run("out", toy_recipe(GetParam().method->name, GetParam().bits));
  const OpenModel artifact = open_model(bench.output("out"), {}, at::kCPU);
  at::Generator generator = at::detail::createCPUGenerator(5);
  for (const int64_t length : {1, 2, 3, 5, 8, 15, 16, 33}) {
    const Tensor ids = at::randint(0, 50, {1 + length % 2, length}, generator, at::kLong);
    for (const bool int8_inputs : {false, true}) {
      const Tensor logits = logits_with(*artifact.model, ids, {int8_inputs, false});
      EXPECT_TRUE(at::equal(logits, logits_with(*artifact.model, ids, {int8_inputs, true})))
          << length << (int8_inputs ? " tokens, inputs in int8" : " tokens");
      EXPECT_TRUE(at::isfinite(logits).all().item<bool>());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, EveryProduct, ::testing::ValuesIn(all_cases({0, 1, 2, 3})), case_name);

// Inputs that are rounded for the product only cost little beside weights of 4 bits, and change something.
TEST(Int8Inputs, OfWeightsInCodesCostLittle) {
  const Workbench bench(testing::toy_llama(kLlamaSizes[1]));
  bench.run("out", toy_recipe("gptq", "w4a16"));
  const OpenModel artifact = open_model(bench.output("out"), {}, at::kCPU);
  const Tensor ids = at::arange(40).reshape({2, 20});
  const Tensor exact = logits_with(*artifact.model, ids, {});
  const Tensor rounded = logits_with(*artifact.model, ids, {.int8_inputs = true});
  EXPECT_FALSE(at::equal(exact, rounded));
  EXPECT_GT(sqnr_db(exact, rounded), 25);
}

}  // namespace
}  // namespace ptq
