#include "checkpoint/pickle.h"

#include <gtest/gtest.h>

#include "builders.h"

namespace ptq {
namespace {

using namespace ::ptq::testing;
using pickle::program;

PickleGraph parse(const std::string& bytes) {
  return parse_pickle(as_bytes(bytes), "test");
}
std::string pickle_error(const std::string& bytes) {
  return error_of([&] { parse(bytes); });
}

TEST(Pickle, NumbersOfEveryWidthAreRead) {
  const std::string bytes =
      program("(" + std::string("K\xff") + "M\xff\xff" + "J" + le<int32_t>(-2) + std::string("\x8a\x00", 2) +
              std::string("\x8a\x01\x80", 3) + "\x8a\x08" + le<int64_t>(INT64_MIN) + "l");
  const PickleGraph graph = parse(bytes);
  std::vector<int64_t> values;
  for (const NodeId item : graph.items(graph.root(), 10)) values.push_back(graph.integer(item));
  EXPECT_EQ(values, (std::vector<int64_t>{255, 65535, -2, 0, -128, INT64_MIN}));
}

TEST(Pickle, NumberOverSixtyFourBitsKeepsItsBytes) {
  const std::string bytes = program("\x8a\x09" + std::string(9, 'x'));
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph.kind(graph.root()), NodeKind::kBigInt);
  EXPECT_EQ(graph.bytes(graph.root()).size(), 9U);
  EXPECT_TRUE(has(error_of([&] { graph.integer(graph.root()); }), "something else where a number is due"));
}

TEST(Pickle, ItemsAddedAfterTheContainerWasStoredAreSeen) {
  const std::string bytes = program(std::string("}q\x05", 3) + pickle::text("k") + "K\x07s" + "h\x05" + "0");
  const PickleGraph graph = parse(bytes);
  ASSERT_EQ(graph.kind(graph.root()), NodeKind::kDict);
  const auto items = graph.items(graph.root(), 10);
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(graph.text(items[0]), "k");
  EXPECT_EQ(graph.integer(items[1]), 7);
}

TEST(Pickle, GlobalThatRunsCodeIsInert) {
  const std::string bytes =
      program(pickle::call(pickle::global("os", "system"), pickle::tuple({pickle::text("exit 1")})));
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph.kind(graph.root()), NodeKind::kObject);
  EXPECT_EQ(graph.global_module(graph.at(graph.root()).a), "os");
  EXPECT_EQ(graph.global_name(graph.at(graph.root()).a), "system");
}

TEST(Pickle, ProtocolFourOperationsAreRead) {
  const std::string frame = "\x95" + le<uint64_t>(0);
  const std::string bytes = program(
      frame + "\x8c\x01m\x94\x8c\x01n\x94\x93\x94)\x81\x94" + "}" + "b" + "0" + "h" + std::string(1, '\x01'),
      4);
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph.text(graph.root()), "n");
}

TEST(Pickle, SetsAndBytesAreRead) {
  const std::string bytes =
      program("\x8f(" + std::string("C\x02zz") + "\x8e" + le<uint64_t>(1) + "y" + "\x90", 5);
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph.kind(graph.root()), NodeKind::kSet);
  EXPECT_EQ(graph.items(graph.root(), 10).size(), 2U);
}

TEST(Pickle, EveryTruncationIsAnError) {
  const std::string bytes = program(
      pickle::dict({{"w", pickle::tensor(pickle::storage("FloatStorage", "0", 4), 0, {2, 2}, {2, 1})}}));
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_NE(pickle_error(bytes.substr(0, length)), "") << length;
  }
}

TEST(Pickle, LengthLongerThanWhatIsLeftIsAnErrorWithBothNumbers) {
  const std::string message = pickle_error("\x80\x04\x8d" + le<uint64_t>(UINT64_MAX) + "abc.");
  EXPECT_TRUE(has(message, "18446744073709551615 bytes are wanted")) << message;
  EXPECT_TRUE(has(message, "4 are left")) << message;
  EXPECT_TRUE(has(pickle_error("\x80\x02X" + le<uint32_t>(0xffffffff) + "."), "4294967295"));
}

TEST(Pickle, MissingValuesOnTheStackAreErrors) {
  for (const char* body :
       {"", "R", "N\x85\x86", "b", "Q", "a", "Ns", "(a", "N(Nu", "(u", "t", "1", "2", "0"}) {
    EXPECT_NE(pickle_error(program(body)), "") << body;
  }
}

TEST(Pickle, ValuesForSomethingThatIsNoContainerAreAnError) {
  EXPECT_TRUE(has(pickle_error(program("NNa")), "no container"));
  EXPECT_TRUE(has(pickle_error(program("]NNs")), "no container"));
  EXPECT_TRUE(has(pickle_error(program("}NNs(Ne")), "no container"));
  EXPECT_TRUE(has(pickle_error(program("}(Nu")), "key without a value"));
}

TEST(Pickle, ObjectIsListOrDictButNotBoth) {
  EXPECT_TRUE(has(pickle_error(program("N)RNNsNa")), "no container"));
}

TEST(Pickle, MemoKeyThatWasNeverSetIsAnError) {
  EXPECT_TRUE(has(pickle_error(program("h\x07")), "memo key 7 was never set"));
  EXPECT_TRUE(has(pickle_error(program("Nr" + le<uint32_t>(UINT32_MAX))), "over the limit"));
}

TEST(Pickle, OtherProtocolsAndOperationsAreErrors) {
  EXPECT_TRUE(has(pickle_error(program("N", 6)), "protocol 6"));
  EXPECT_TRUE(has(pickle_error(program("N", 1)), "protocol 1"));
  EXPECT_TRUE(has(pickle_error(program("I01\n")), "unknown operation 73"));
  EXPECT_TRUE(has(pickle_error(program("\x97")), "unknown operation 151"));
}

TEST(Pickle, MillionsOfObjectsStopAtTheLimit) {
  const std::string pair = "]0";
  std::string bytes = "\x80\x02";
  for (size_t i = 0; i <= kMaxPickleNodes; ++i) bytes += pair;
  EXPECT_TRUE(has(pickle_error(bytes), "more than 3000000 objects"));
  EXPECT_TRUE(has(pickle_error("\x80\x02" + std::string(kMaxPickleStack + 1, 'N')), "values on the stack"));
  EXPECT_TRUE(has(pickle_error("\x80\x02" + std::string(kMaxPickleStack + 1, '(')), "marks"));
}

TEST(Pickle, DeepNestingIsNoRecursion) {
  std::string bytes = "\x80\x02N" + std::string(1'000'000, '\x85') + ".";
  EXPECT_EQ(parse(bytes).kind(parse(bytes).root()), NodeKind::kTuple);
}

TEST(Pickle, ListThatHoldsItselfIsRead) {
  const std::string bytes =
      program(std::string("]q\x00h\x00"
                          "a",
                          6));
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph.items(graph.root(), 2), std::vector<NodeId>{graph.root()});
}

TEST(Pickle, EndIsWhereTheNextPickleBegins) {
  const std::string bytes = program("N") + program("K\x05");
  const size_t end = parse(bytes).end();
  EXPECT_EQ(end, 4U);
  const std::string rest = bytes.substr(end);
  const PickleGraph graph = parse(rest);
  EXPECT_EQ(graph.integer(graph.root()), 5);
}

}  // namespace
}  // namespace ptq
