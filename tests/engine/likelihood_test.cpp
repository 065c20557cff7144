// Likelihoods of texts against logits made one token after the other.
#include "ptq/engine/likelihood.h"

#include <gtest/gtest.h>

#include "../support/toy_llama.h"
#include "../support/toy_source.h"
#include "ptq/engine/decoder.h"

namespace ptq {
namespace {

using Texts = std::vector<ScoredText>;

// `length` tokens that `seed` makes, with the first `shared` of them by 0.
ScoredText text_of(int64_t seed, int64_t shared, int64_t length, int64_t scored) {
  ScoredText text;
  text.scored = scored;
  for (int64_t i = 0; i < length; ++i) text.ids.push_back((i < shared ? i * 7 : i * 11 + seed * 5 + 1) % 50);
  return text;
}

Likelihood by_decoding(const Model& model, const ScoredText& text) {
  Decoder decoder(model, 1);
  Likelihood result;
  const auto length = static_cast<int64_t>(text.ids.size());
  for (int64_t i = 0; i + 1 < length; ++i) {
    const int64_t next = text.ids[static_cast<size_t>(i + 1)];
    const Tensor log_p =
        at::log_softmax(decoder.advance(at::full({1, 1}, text.ids[static_cast<size_t>(i)], at::kLong))[0], 0);
    if (i + 1 < length - text.scored) continue;
    result.log_likelihood += log_p[next].item<double>();
    result.greedy = result.greedy && log_p.argmax().item<int64_t>() == next;
  }
  return result;
}

std::vector<Likelihood> of(const Model& model, const Texts& texts) {
  return likelihoods(model, {texts}, [](int64_t) {}).front();
}

// Short and long beginnings in common, none, texts that differ by their last token alone, one that begins
// another, and one that is scored from its second token on.
std::vector<Texts> questions() {
  return {{text_of(1, 5, 9, 3), text_of(2, 5, 12, 7)},
          {text_of(1, 70, 76, 6), text_of(2, 70, 79, 9), text_of(3, 70, 72, 2)},
          {text_of(1, 0, 8, 2), text_of(2, 0, 5, 4)},
          {text_of(1, 80, 81, 1), text_of(2, 80, 81, 1), text_of(3, 80, 81, 1)},
          {text_of(1, 90, 90, 20), text_of(2, 90, 95, 94)},
          {text_of(4, 3, 30, 1)}};
}

testing::Source llama() {
  const testing::ToyModel toy = testing::toy_llama({});
  return testing::Source(toy.tensors, toy.config);
}

void expect_those_of_decoding(const Model& model) {
  for (const Texts& texts : questions()) {
    const std::vector<Likelihood> made = of(model, texts);
    ASSERT_EQ(made.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const Likelihood expected = by_decoding(model, texts[i]);
      EXPECT_NEAR(made[i].log_likelihood, expected.log_likelihood,
                  2e-5 * (1 + std::abs(expected.log_likelihood)));
      EXPECT_EQ(made[i].greedy, expected.greedy);
    }
  }
}

TEST(Likelihoods, AreThoseOfDecodingWithAStateSpaceModel) {
  const testing::Source source(testing::toy_mamba({24, 48, 8, 4}));
  expect_those_of_decoding(*source.model());
}

TEST(Likelihoods, AreThoseOfDecodingWithAttention) {
  const testing::Source source = llama();
  expect_those_of_decoding(*source.model());
}

TEST(Likelihoods, OfAQuestionDoNotDependOnTheOthers) {
  const testing::Source source = llama();
  const std::unique_ptr<Model> model = source.model();
  int64_t tokens = 0;
  const std::vector<Texts> all = questions();
  const auto together = likelihoods(*model, all, [&](int64_t passed) { tokens += passed; });
  EXPECT_EQ(tokens, likelihood_steps(*model, all));
  for (size_t i = 0; i < all.size(); ++i) {
    const std::vector<Likelihood> alone = of(*model, all[i]);
    for (size_t j = 0; j < alone.size(); ++j)
      EXPECT_EQ(alone[j].log_likelihood, together[i][j].log_likelihood) << i << " " << j;
  }
}

TEST(Likelihoods, AWordThatTheModelWouldWriteIsGreedy) {
  const testing::Source source = llama();
  const std::unique_ptr<Model> model = source.model();
  ScoredText text = text_of(1, 6, 6, 2);
  for (int64_t i = 0; i < 2; ++i) {
    Decoder decoder(*model, 1);
    const int64_t kept = 4 + i;
    const Tensor ids =
        at::tensor(at::ArrayRef<int64_t>(text.ids.data(), static_cast<size_t>(kept)), at::kLong);
    text.ids[static_cast<size_t>(kept)] = decoder.advance(ids.unsqueeze(0))[0].argmax().item<int64_t>();
  }
  ScoredText other = text;
  other.ids.back() = (other.ids.back() + 1) % 50;
  const std::vector<Likelihood> made = of(*model, {text, other});
  EXPECT_TRUE(made[0].greedy);
  EXPECT_FALSE(made[1].greedy);
}

}  // namespace
}  // namespace ptq
