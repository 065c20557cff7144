// Decoding with state against all tokens at once.
#include "ptq/engine/decoder.h"

#include <gtest/gtest.h>

#include <limits>

#include "../base/expect_error.h"
#include "../support/toy_llama.h"
#include "../support/toy_mamba2.h"
#include "../support/toy_source.h"
#include "ptq/engine/evaluate.h"

namespace ptq {
namespace {

using testing::logits_of;
using testing::odd_llamas;
using testing::Source;
using testing::toy_ids;
using testing::ToyModel;

TEST(LlamaDecoder, StepsOfAnyLengthGiveTheLogitsOfAllAtOnce) {
  for (const ToyModel& toy : odd_llamas()) {
    SCOPED_TRACE(toy.config.dump());
    const Source source(toy.tensors, toy.config);
    const auto model = source.model();
    const Tensor expected = logits_of(*model, toy_ids());
    for (const int64_t step : {1, 2, 5, 12}) {
      Decoder decoder(*model, 2);
      for (int64_t begin = 0; begin < 12; begin += step) {
        const int64_t end = std::min<int64_t>(12, begin + step);
        const Tensor logits = decoder.advance(toy_ids().slice(1, begin, end));
        EXPECT_TRUE(at::allclose(logits, expected.select(1, end - 1), 0, 1e-4)) << step << ", " << begin;
      }
    }
  }
}

// Keys and values in 16 bits move the logits a little, and no less or more for other steps.
TEST(LlamaDecoder, HalfFloatsInTheCacheGiveTheSameLogitsForStepsOfAnyLength) {
  for (const ToyModel& toy : odd_llamas()) {
    SCOPED_TRACE(toy.config.dump());
    const Source source(toy.tensors, toy.config);
    const auto model = source.model();
    const Tensor exact = logits_of(*model, toy_ids());
    Decoder at_once(*model, 2, {.floats = CacheFloats::kFloat16});
    const Tensor expected = at_once.advance(toy_ids());
    EXPECT_TRUE(at::allclose(expected, exact.select(1, 11), 0, 0.03));
    for (const int64_t step : {1, 2, 5}) {
      Decoder decoder(*model, 2, {.floats = CacheFloats::kFloat16});
      Tensor logits;
      for (int64_t begin = 0; begin < 12; begin += step)
        logits = decoder.advance(toy_ids().slice(1, begin, std::min<int64_t>(12, begin + step)));
      EXPECT_TRUE(at::allclose(logits, expected, 0, 1e-4)) << step;
    }
  }
}

class MambaDecoder : public ::testing::TestWithParam<int64_t> {};

TEST_P(MambaDecoder, StepsGiveTheLogitsOfAllAtOnce) {
  const Source source(testing::toy_mamba({24, 48, 8, 4}));
  const auto model = source.model();
  const Tensor expected = logits_of(*model, toy_ids());
  Decoder decoder(*model, 2);
  for (int64_t begin = 0; begin < 12; begin += GetParam()) {
    const int64_t end = std::min<int64_t>(12, begin + GetParam());
    const Tensor logits = decoder.advance(toy_ids().slice(1, begin, end));
    EXPECT_TRUE(at::allclose(logits, expected.select(1, end - 1), 0, 1e-4)) << begin;
    // Without what came before, the logits are others: the state matters.
    if (begin > 0) {
      Decoder fresh(*model, 2);
      EXPECT_FALSE(at::allclose(fresh.advance(toy_ids().slice(1, begin, end)), logits, 0, 1e-4));
    }
  }
}

// The limits of a step bind in decoding as they do before.
TEST_P(MambaDecoder, StepsOfMamba2GiveTheLogitsOfAllAtOnce) {
  ToyModel toy = testing::toy_mamba2({.d_conv = 4, .biases = true});
  toy.config["time_step_limit"] = {0.04, 0.06};
  const Source source(toy.tensors, toy.config);
  const auto model = source.model();
  const Tensor expected = logits_of(*model, toy_ids());
  toy.config.erase("time_step_limit");
  const Source without(toy.tensors, toy.config);
  EXPECT_FALSE(at::allclose(logits_of(*without.model(), toy_ids()), expected, 0, 1e-3));
  Decoder decoder(*model, 2);
  for (int64_t begin = 0; begin < 12; begin += GetParam()) {
    const int64_t end = std::min<int64_t>(12, begin + GetParam());
    const Tensor logits = decoder.advance(toy_ids().slice(1, begin, end));
    EXPECT_TRUE(at::allclose(logits, expected.select(1, end - 1), 0, 1e-4)) << begin;
  }
}

INSTANTIATE_TEST_SUITE_P(Lengths, MambaDecoder, ::testing::Values(1, 2, 5, 12));

TEST(Evaluate, TextThatIsFedTokenByTokenHasTheLossesOfItsWindows) {
  std::vector<ToyModel> toys = odd_llamas();
  toys.push_back({testing::toy_mamba({24, 48, 8, 4}), {}});
  toys.push_back(testing::toy_mamba2({}));
  for (const ToyModel& toy : toys) {
    const Source source(toy.tensors, toy.config);
    const auto model = source.model();
    const LossSums whole = evaluate(*model, toy_ids(), nullptr, [] {});
    const LossSums fed = evaluate(*model, toy_ids(), nullptr, [] {}, {}, Feeding::kTokens);
    EXPECT_EQ(fed.tokens, whole.tokens);
    EXPECT_NEAR(fed.mean_nll(), whole.mean_nll(), 1e-5);
  }
}

TEST(Decoder, RestartedGivesTheLogitsOfOneThatBegins) {
  const Source source(testing::toy_mamba({24, 48, 8, 4}));
  const auto model = source.model();
  Decoder decoder(*model, 2);
  const Tensor logits = decoder.advance(toy_ids());
  EXPECT_FALSE(at::equal(decoder.advance(toy_ids()), logits));
  decoder.restart();
  EXPECT_TRUE(at::equal(decoder.advance(toy_ids()), logits));
}

// Blocks that are read again for every step give what blocks give that are kept.
TEST(Decoder, WithoutRoomForTheBlocksGivesTheSameLogits) {
  const Source source(testing::toy_mamba({24, 48, 8, 4}));
  const auto model = source.model();
  Decoder kept(*model, 2);
  Decoder read_again(*model, 2, {.least_free_bytes = std::numeric_limits<int64_t>::max()});
  for (int64_t begin = 0; begin < 12; begin += 4) {
    const Tensor ids = toy_ids().slice(1, begin, begin + 4);
    EXPECT_TRUE(at::equal(read_again.advance(ids), kept.advance(ids)));
  }
}

TEST(Decoder, ValuesThatAreNotFiniteAreAnErrorThatSaysWhereTheyArise) {
  const auto decode = [](const testing::TensorMap& tensors) {
    const Source source(tensors);
    const auto model = source.model();
    Decoder(*model, 2).advance(toy_ids());
  };
  testing::TensorMap head = testing::toy_mamba({}), block = head;
  head["backbone.norm_f.weight"] = at::full({24}, 3e38);
  EXPECT_ERROR(decode(head), ExitCode::kFailed, "the head: ");
  EXPECT_ERROR(decode(head), ExitCode::kFailed, "values of the logits are NaN or infinite");
  block["backbone.layers.1.mixer.out_proj.weight"] = at::full({24, 48}, 3e38);
  EXPECT_ERROR(decode(block), ExitCode::kFailed, "backbone.layers.1.mixer: ");
}

}  // namespace
}  // namespace ptq
