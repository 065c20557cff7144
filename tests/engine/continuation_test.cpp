// Texts that a small model writes on: what ends them, and what they depend on.
#include "ptq/engine/continuation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "../support/toy_source.h"
#include "ptq/base/json.h"

namespace ptq {
namespace {

// Token i is one letter, or the euro sign byte by byte.
std::unique_ptr<Tokenizer> letters() {
  Json vocab = Json::object();
  for (int64_t i = 0; i < 26; ++i) vocab[std::string(1, static_cast<char>('a' + i))] = i;
  for (int64_t i = 0; i < 21; ++i) vocab[std::string(1, static_cast<char>('A' + i))] = 26 + i;
  vocab["â"] = 47;
  vocab["Ĥ"] = 48;
  vocab["¬"] = 49;
  const Json document = {{"version", "1.0"},
                         {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}},
                         {"decoder", {{"type", "ByteLevel"}}}};
  return Tokenizer::from_json(document.dump(), "letters");
}

class Continuing : public ::testing::Test {
 protected:
  const testing::Source source_{testing::toy_mamba({24, 48, 8, 4})};
  const std::unique_ptr<Model> model_ = source_.model();
  const std::unique_ptr<Tokenizer> tokenizer_ = letters();
  ContinuationOptions options_ = drawing();
  std::string shown_;

  static ContinuationOptions drawing() {
    ContinuationOptions options;
    options.sampling.temperature = 1;
    options.max_tokens = 40;
    return options;
  }
  Continuation write(int64_t row = 0, const std::vector<int64_t>& prompt = {7, 8, 9}) {
    Decoder decoder(*model_, 1);
    shown_.clear();
    return continue_text(decoder, *tokenizer_, prompt, row, options_,
                         [this](const std::string& text) { shown_ += text; });
  }
};

TEST_F(Continuing, WritesAsManyTokensAsAskedAndShowsTheirText) {
  const Continuation result = write();
  EXPECT_EQ(result.ending, Ending::kLength);
  EXPECT_EQ(result.written(), 40);
  EXPECT_EQ(result.prompt, "hij");
  EXPECT_EQ(result.prompt + result.text, tokenizer_->decode(result.ids));
  EXPECT_EQ(shown_, result.prompt + result.text);
  options_.max_tokens = 0;
  EXPECT_EQ(write().text, "");
  EXPECT_EQ(shown_, "hij");
}

TEST_F(Continuing, SameSeedAndRowGiveTheSameText) {
  const std::vector<int64_t> ids = write().ids;
  EXPECT_EQ(write().ids, ids);
  EXPECT_NE(write(1).ids, ids);
  options_.sampling.seed = 1;
  EXPECT_NE(write().ids, ids);
}

TEST_F(Continuing, TextDoesNotDependOnTheTextsBeforeIt) {
  const std::vector<int64_t> alone = write(2).ids;
  Decoder decoder(*model_, 1);
  std::vector<int64_t> last;
  for (int64_t row = 0; row < 3; ++row) {
    if (row > 0) decoder.restart();
    const std::vector<int64_t> prompt = row < 2 ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{7, 8, 9};
    last = continue_text(decoder, *tokenizer_, prompt, row, options_, [](const std::string&) {}).ids;
  }
  EXPECT_EQ(last, alone);
}

TEST_F(Continuing, EndTokenEndsTheTextAndIsNotShown) {
  const Continuation free = write();
  options_.end_tokens = {999, free.ids[10]};
  const Continuation ended = write();
  EXPECT_EQ(ended.ending, Ending::kEndToken);
  const auto first = std::find(free.ids.begin() + 3, free.ids.end(), free.ids[10]);
  EXPECT_EQ(ended.ids, std::vector<int64_t>(free.ids.begin(), first + 1));
  const std::vector<int64_t> before(free.ids.begin(), first);
  EXPECT_EQ(ended.prompt + ended.text, tokenizer_->decode(before));
  EXPECT_EQ(shown_, ended.prompt + ended.text);
}

TEST_F(Continuing, StopStringAcrossTokensEndsTheTextBeforeIt) {
  const std::string text = write().text;
  options_.stop_strings = {"never", text.substr(12, 3)};
  const Continuation stopped = write();
  EXPECT_EQ(stopped.ending, Ending::kStopString);
  EXPECT_EQ(stopped.text, text.substr(0, text.find(options_.stop_strings[1])));
  EXPECT_EQ(shown_, stopped.prompt + stopped.text);
  EXPECT_LT(stopped.written(), 40);
}

TEST_F(Continuing, StopStringOfThePromptDoesNotCount) {
  options_.stop_strings = {"hij"};
  EXPECT_EQ(write().text, write().text);
  EXPECT_EQ(shown_.substr(0, 3), "hij");
}

TEST_F(Continuing, PenaltyLeavesNoTokenTwice) {
  options_.sampling.temperature = 0;
  options_.sampling.repetition_penalty = 1e6;
  const Continuation result = write();
  const std::set<int64_t> different(result.ids.begin(), result.ids.end());
  EXPECT_GT(different.size(), 20U);
}

}  // namespace
}  // namespace ptq
