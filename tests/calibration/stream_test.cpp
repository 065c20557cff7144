// Hidden states on their way through blocks, and where activations overflow.
#include "ptq/calibration/stream.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

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

Tensor some_hidden(int64_t windows = 3) {
  return at::randn({windows, 8, 24}, at::detail::createCPUGenerator(1), at::kFloat);
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
    candidate->set(at::full_like(candidate->values(), 1e38));
    found = true;
  }
  EXPECT_TRUE(found) << weight;
  return block;
}

// The windows that it was shown at each site.
struct Recorder : Observer {
  void observe(const Site& site, const Tensor& x) override { seen[site.name].push_back(x.clone()); }
  Tensor at_site(const std::string& name) const { return at::cat(seen.at(name)); }
  std::map<std::string, std::vector<Tensor>> seen;
};

TEST(ForEachBatch, CoversEveryWindowOnceInOrderAndFillsAllBatchesButTheLast) {
  for (const int64_t length : {1, 512, 2048, 6144}) {
    int64_t next = 0;
    for_each_batch(13, length, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin, next);
      EXPECT_EQ(end, std::min<int64_t>(13, begin + windows_per_batch(length)));
      next = end;
    });
    EXPECT_EQ(next, 13);
  }
}

TEST(WindowsPerBatch, HaveAboutTwoThousandTokensAndAreAtLeastOne) {
  EXPECT_EQ(windows_per_batch(1), 2048);
  EXPECT_EQ(windows_per_batch(512), 4);
  EXPECT_EQ(windows_per_batch(1500), 1);
  EXPECT_EQ(windows_per_batch(100'000), 1);
}

TEST(Advance, IsTheBlocksOutputInPlace) {
  const Source source = llama();
  const auto model = source.model();
  const auto block = model->load_block(1);
  // More windows than one batch takes.
  const Tensor hidden = some_hidden(windows_per_batch(8) + 3), expected = outputs_of(*block, hidden);
  Tensor moved = hidden.clone();
  const void* data = moved.data_ptr();
  advance(*block, moved);
  EXPECT_TRUE(at::equal(moved, expected));
  EXPECT_EQ(moved.data_ptr(), data);
  EXPECT_TRUE(at::allclose(moved, block->forward(hidden), 1e-5, 1e-5));
}

TEST(Advance, ObserverSeesEveryWindowOnceAndChangesNothing) {
  const Source source = llama();
  const auto block = source.model()->load_block(1);
  const Sublayer& attention = block->sublayers()[0];
  const Tensor hidden = some_hidden(windows_per_batch(8) + 3), expected = outputs_of(attention, hidden);
  Tensor moved = hidden.clone();
  Recorder advanced, observed;
  advance(attention, moved, &advanced);
  EXPECT_TRUE(at::equal(moved, expected));
  const Tensor before = hidden.clone();
  observe(attention, hidden, observed);
  EXPECT_TRUE(at::equal(hidden, before));
  ASSERT_EQ(advanced.seen.size(), 5U);  // queries, keys, values, and the inputs of the linears
  EXPECT_EQ(advanced.at_site("qkv.input").sizes(), hidden.sizes());
  for (const auto& [site, batches] : advanced.seen)
    EXPECT_TRUE(at::equal(advanced.at_site(site), observed.at_site(site))) << site;
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
    hidden = with_outlier();
    EXPECT_ERROR(advance(*block, hidden), ExitCode::kFailed, "model.layers.1");
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
    hidden = with_outlier();
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

TEST(EmbedWindows, AreTheModelsEmbeddingOfEveryWindow) {
  const Source source = llama();
  const auto model = source.model();
  const Tensor ids = testing::toy_ids();
  EXPECT_TRUE(at::equal(embed_windows(*model, ids), model->embed(ids)));
}

TEST(WindowSplit, TheLastOnesAreHeldOutOrAllServeForBoth) {
  EXPECT_EQ(WindowSplit::of(8, 1), (WindowSplit{7, 1}));
  EXPECT_EQ(WindowSplit::measured_on_calibrated(3), (WindowSplit{3, 3}));
}

TEST(Stream, AdvanceMovesAllWindowsAndShowsThoseCalibratedOn) {
  const Source source = llama();
  const auto block = source.model()->load_block(0);
  const Tensor hidden = some_hidden(5);
  for (const WindowSplit& split : {WindowSplit::of(5, 2), WindowSplit::measured_on_calibrated(5)}) {
    Stream stream(hidden.clone(), split);
    EXPECT_FALSE(stream.empty());
    EXPECT_EQ(stream.windows(), 5);
    EXPECT_EQ(stream.length(), 8);
    EXPECT_EQ(stream.d_model(), 24);
    Tensor expected = hidden;
    for (const Sublayer& sublayer : block->sublayers()) {
      Recorder seen;
      stream.advance(sublayer, &seen);
      for (const auto& [site, batches] : seen.seen) {
        int64_t windows = 0;
        for (const Tensor& batch : batches) windows += batch.size(0);
        EXPECT_EQ(windows, split.calibrated) << site;
      }
      EXPECT_FALSE(seen.seen.empty());
      expected = outputs_of(sublayer, expected);
      EXPECT_TRUE(at::allclose(stream.hidden(), expected, 1e-5, 1e-5));
    }
    EXPECT_TRUE(at::equal(stream.calibrated(), stream.hidden().slice(0, 0, split.calibrated)));
    EXPECT_TRUE(at::equal(stream.held_out(), stream.hidden().slice(0, 5 - split.held_out)));
  }
}

TEST(Stream, OfARunWithoutDataIsEmptyAndHasAWidth) {
  const Stream stream(24);
  EXPECT_TRUE(stream.empty());
  EXPECT_EQ(stream.d_model(), 24);
}

}  // namespace
}  // namespace ptq
