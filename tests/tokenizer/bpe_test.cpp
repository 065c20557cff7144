// BPE: the order of merges, characters that are no token, and models that do not fit together.
#include <random>

#include "tiny.h"
#include "tokenizer/bpe.h"

namespace ptq::tiny {
namespace {

TEST(Bpe, LowestRankIsMergedFirst) {
  const Json model = bpe({"a", "b", "c", "ab", "bc"}, {"b c", "a b"});
  EXPECT_EQ(tokens(document(model), "abc"), (Strings{"a", "bc"}));
}

TEST(Bpe, OfEqualRanksTheLeftmostIsMergedFirst) {
  EXPECT_EQ(tokens(document(bpe({"a", "aa"}, {"a a"})), "aaa"), (Strings{"aa", "a"}));
}

TEST(Bpe, MergesWrittenAsPairsMayHoldSpaces) {
  Json model = bpe({"a", " ", " a"});
  model["merges"] = Json::array({Json::array({" ", "a"})});
  EXPECT_EQ(tokens(document(model), " aa"), (Strings{" a", "a"}));
}

// Merges of one pair: the later rank counts, as in the reference.
TEST(Bpe, LastOfTwoMergesOfOnePairCounts) {
  const Json model = bpe({"a", "b", "c", "ab", "bc"}, {"a b", "b c", "a b"});
  EXPECT_EQ(tokens(document(model), "abc"), (Strings{"a", "bc"}));
}

// Long words take another path through the code; the plain rule is the judge of both.
std::vector<std::string> merge_by_the_rule(std::vector<std::string> word, const Strings& merges) {
  for (;;) {
    size_t best_rank = merges.size();
    size_t best = 0;
    for (size_t i = 0; i + 1 < word.size(); ++i) {
      const auto rank = static_cast<size_t>(
          std::find(merges.begin(), merges.end(), word[i] + " " + word[i + 1]) - merges.begin());
      if (rank < best_rank) {
        best_rank = rank;
        best = i;
      }
    }
    if (best_rank == merges.size()) return word;
    word[best] += word[best + 1];
    word.erase(word.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Bpe, WordsOfEveryLengthFollowTheRule) {
  const Strings merges = {"a b", "b b", "ab a", "bb a", "aba b", "a a", "aa ab", "bba bb"};
  const Json model = bpe({"a", "b", "ab", "bb", "aba", "bba", "abab", "aa", "aaab", "bbabb"}, merges);
  std::mt19937 random(1);
  for (size_t length = 1; length < 200; ++length) {
    std::string text;
    Strings word;
    for (size_t i = 0; i < length; ++i) {
      text.push_back(random() % 2 == 0 ? 'a' : 'b');
      word.emplace_back(1, text.back());
    }
    EXPECT_EQ(tokens(document(model), text), merge_by_the_rule(word, merges)) << text;
  }
}

TEST(Bpe, WordThatIsATokenIgnoresMergesIfToldSo) {
  Json model = bpe({"a", "b", "ab"});
  EXPECT_EQ(tokens(document(model), "ab"), (Strings{"a", "b"}));
  model["ignore_merges"] = true;
  EXPECT_EQ(tokens(document(model), "ab"), (Strings{"ab"}));
}

TEST(Bpe, UnknownCharacterIsDroppedWithoutUnknownToken) {
  EXPECT_EQ(tokens(document(bpe({"a"})), "axxa"), (Strings{"a", "a"}));
}

TEST(Bpe, UnknownCharactersAreFusedIfToldSo) {
  Json model = bpe({"?", "a"});
  model["unk_token"] = "?";
  EXPECT_EQ(tokens(document(model), "xya"), (Strings{"?", "?", "a"}));
  model["fuse_unk"] = true;
  EXPECT_EQ(tokens(document(model), "xya"), (Strings{"?", "a"}));
}

TEST(Bpe, ByteFallbackNeedsATokenForEveryByte) {
  Json model = bpe({"?", "<0xC3>", "<0xA9>"});
  model["unk_token"] = "?";
  model["byte_fallback"] = true;
  EXPECT_EQ(tokens(document(model), "\u00E9"), (Strings{"<0xC3>", "<0xA9>"}));
  EXPECT_EQ(tokens(document(model), "\u00E8"), (Strings{"?"}));
}

// As in the reference, bytes do not end the wait for more unknown characters.
TEST(Bpe, UnknownTokenComesAfterTheBytesThatFollowIt) {
  Json model = bpe({"?", "<0x41>"});
  model["unk_token"] = "?";
  model["byte_fallback"] = true;
  EXPECT_EQ(tokens(document(model), "BA"), (Strings{"<0x41>", "?"}));
}

TEST(Bpe, RepeatedWordGivesTheSameIds) {
  const auto tokenizer = load(document(bpe({"a", "b", "ab"}, {"a b"})));
  EXPECT_EQ(tokenizer->encode("abab", false), tokenizer->encode("abab", false));
}

TEST(Bpe, MergeOfUnknownPieceIsAnError) {
  expect_error(document(bpe({"a", "b"}, {"a c"})), "model.merges[0]: \"c\" is not in the vocabulary");
}

TEST(Bpe, MergeWithUnknownResultIsAnError) {
  expect_error(document(bpe({"a", "b"}, {"a b"})), "\"ab\" is not in the vocabulary");
}

TEST(Bpe, MergeOfThreePiecesIsAnError) {
  expect_error(document(bpe({"a"}, {"a a a"})), "model.merges[0]");
}

TEST(Bpe, NegativeIdIsAnError) {
  Json model = bpe({"a"});
  model["vocab"]["a"] = -1;
  expect_error(document(model), "has the id -1");
}

TEST(Bpe, HugeIdIsAnError) {
  Json model = bpe({"a"});
  model["vocab"]["a"] = 10'000'000;
  expect_error(document(model), "10000000");
  model["vocab"]["a"] = UINT64_MAX;
  expect_error(document(model), "has the id");
}

TEST(Bpe, FractionalIdIsAnError) {
  Json model = bpe({"a"});
  model["vocab"]["a"] = 1.5;
  expect_error(document(model), "not an integer");
}

TEST(Bpe, IdOfTwoTokensIsAnError) {
  Json model = bpe({"a", "b"});
  model["vocab"]["b"] = 0;
  expect_error(document(model), "the same id 0");
}

TEST(Bpe, UnknownTokenOutsideTheVocabularyIsAnError) {
  Json model = bpe({"a"});
  model["unk_token"] = "?";
  expect_error(document(model), "\"?\" is not in the vocabulary");
}

TEST(Bpe, DropoutIsAnError) {
  Json model = bpe({"a"});
  model["dropout"] = 0.1;
  expect_error(document(model), "dropout");
}

TEST(Bpe, SuffixOfWordsIsAnErrorUnlessEmpty) {
  Json model = bpe({"a"});
  model["end_of_word_suffix"] = "";
  EXPECT_EQ(error_of(document(model)), "");
  model["end_of_word_suffix"] = "</w>";
  expect_error(document(model), "end_of_word_suffix");
}

TEST(Bpe, OtherModelIsAnErrorThatNamesIt) {
  Json model = bpe({"a"});
  model["type"] = "WordPiece";
  expect_error(document(model), "WordPiece");
  expect_error(document(model), ".npy");
}

TEST(Bpe, UnknownFieldIsAnErrorThatNamesIt) {
  Json model = bpe({"a"});
  model["byte_falback"] = true;
  expect_error(document(model), "did you mean \"byte_fallback\"?");
}

}  // namespace
}  // namespace ptq::tiny
