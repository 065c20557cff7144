// Hidden states on their way through blocks, and where activations overflow.
#include "ptq/calibration/stream.h"

#include <gtest/gtest.h>

#include <limits>

#include "../base/expect_error.h"
#include "../support/toy_llama.h"
#include "../support/toy_source.h"

namespace ptq {
namespace {

using testing::Source;

Source llama() {
  const testing::ToyModel toy = testing::toy_llama({});
  return Source(toy.tensors, toy.config);
}

Tensor some_hidden(int64_t rows = 3) {
  return at::randn({rows, 8, 24}, at::detail::createCPUGenerator(1), at::kFloat);
}

// One channel holds nearly everything, so that it is more than 3.4 behind a norm and 1e38 times it overflows.
Tensor with_outlier() {
  Tensor hidden = some_hidden();
  hidden.select(2, 0).fill_(100);
  return hidden;
}

// The second block with one weight so large that what it makes is infinite.
std::unique_ptr<Block> overflowing(const Model& model, const std::string& weight) {
  std::unique_ptr<Block> block = model.load_block(1);
  bool found = false;
  for (Weight* candidate : block->weights()) {
    if (!candidate->name.ends_with(weight)) continue;
    candidate->value = at::full_like(candidate->value, 1e38);
    found = true;
  }
  EXPECT_TRUE(found) << weight;
  return block;
}

TEST(Advance, IsTheBlocksOutputInPlace) {
  const Source source = llama();
  const auto model = source.model();
  const auto block = model->load_block(1);
  // More rows than one batch takes.
  const Tensor hidden = some_hidden(kTokensPerBatch / 8 + 3), expected = run_block(*block, hidden);
  Tensor moved = hidden.clone();
  const void* data = moved.data_ptr();
  advance(*block, moved);
  EXPECT_TRUE(at::equal(moved, expected));
  EXPECT_EQ(moved.data_ptr(), data);
  EXPECT_TRUE(at::allclose(moved, block->forward(hidden), 1e-5, 1e-5));
  for (const Site* site : block->sites()) EXPECT_EQ(site->observer, nullptr);
}

// Not of queries and keys: libtorch's attention gives 0 to a query whose scores are all NaN.
TEST(Advance, OverflowOfALlamaNamesTheBlockAndTheFirstSite) {
  const Source source = llama();
  const auto model = source.model();
  const std::pair<const char*, const char*> cases[] = {
      {"input_layernorm.weight", "the site qkv.input"},
      {"v_proj.weight", "the site attn.v"},
      {"post_attention_layernorm.weight", "the site gate_up.input"},
      {"up_proj.weight", "the site down.input"},
      {"down_proj.weight", "in its output"}};
  for (const auto& [weight, where] : cases) {
    SCOPED_TRACE(weight);
    const auto block = overflowing(*model, weight);
    Tensor hidden = with_outlier();
    EXPECT_ERROR(advance(*block, hidden), ExitCode::kFailed, where);
    EXPECT_ERROR(advance(*block, hidden), ExitCode::kFailed, "model.layers.1");
    for (const Site* site : block->sites()) EXPECT_EQ(site->observer, nullptr);
  }
}

TEST(Advance, OverflowOfAMambaNamesTheBlockAndTheFirstSite) {
  const Source source(testing::toy_mamba({}));
  const auto model = source.model();
  const std::pair<const char*, const char*> cases[] = {{"in_proj.weight", "the site conv.input"},
                                                       {"out_proj.weight", "in its output"}};
  for (const auto& [weight, where] : cases) {
    const auto block = overflowing(*model, weight);
    Tensor hidden = with_outlier();
    EXPECT_ERROR(advance(*block, hidden), ExitCode::kFailed, where);
    EXPECT_ERROR(advance(*block, hidden), ExitCode::kFailed, "backbone.layers.1");
  }
}

TEST(Advance, HiddenStatesThatAreNotFiniteNameTheFirstSite) {
  const Source source = llama();
  const auto model = source.model();
  const auto block = model->load_block(0);
  Tensor hidden = some_hidden();
  hidden[2][5][7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_ERROR(advance(*block, hidden), ExitCode::kFailed, "first at the site qkv.input");
}

TEST(EmbedRows, AreTheModelsEmbeddingOfEveryRow) {
  const Source source = llama();
  const auto model = source.model();
  const Tensor ids = testing::toy_ids();
  EXPECT_TRUE(at::equal(embed_rows(*model, ids), model->embed(ids)));
}

}  // namespace
}  // namespace ptq
