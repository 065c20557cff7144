// Torch archives and legacy files: state dicts, modules, hostile tensors.
#include <gtest/gtest.h>

#include "builders.h"
#include "checkpoint/torch_archive.h"
#include "checkpoint/torch_legacy.h"
#include "checkpoint/torch_objects.h"

namespace ptq {
namespace {

using namespace ::ptq::testing;
using pickle::call;
using pickle::dict;
using pickle::global;
using pickle::number;
using pickle::storage;
using pickle::tensor;
using pickle::text;

const std::string kSixteen(16, 'x');

// A tensor of four floats in storage "0".
std::string four() {
  return tensor(storage("FloatStorage", "0", 4), 0, {4}, {1});
}

TensorFile parse_body(const std::string& body, const std::string& state_key = "") {
  const std::string bytes = torch_archive(body, {{"0", kSixteen}});
  return parse_torch_archive(source_of(bytes), state_key);
}
std::string body_error(const std::string& body, const std::string& state_key = "") {
  return error_of([&] { parse_body(body, state_key); });
}
// The error for a state dict with one tensor over a storage of four floats.
std::string tensor_error(int64_t offset, const std::vector<int64_t>& shape,
                         const std::vector<int64_t>& strides) {
  return body_error(dict({{"w", tensor(storage("FloatStorage", "0", 4), offset, shape, strides)}}));
}

std::string object_with_state(const std::string& state) {
  return global("__main__", "Module") + ")\x81" + state + "b";
}
std::string module(const std::string& parameters, const std::string& children) {
  return object_with_state(dict(
      {{"training", "\x88"}, {"_parameters", parameters}, {"_buffers", dict({})}, {"_modules", children}}));
}

TEST(TorchArchive, StateDictIsFoundAtTheTopLevelAndInTheUsualKeys) {
  for (const std::string& body :
       {dict({{"w", four()}}), dict({{"model", dict({{"w", four()}})}}),
        dict({{"state_dict", dict({{"w", four()}})}, {"epoch", number(3)}}),
        dict({{"module", dict({{"w", four()}})}, {"optimizer", dict({{"m", four()}})}})}) {
    const TensorFile file = parse_body(body);
    ASSERT_EQ(file.tensors.size(), 1U);
    EXPECT_EQ(file.tensors[0].info.name, "w");
  }
}

TEST(TorchArchive, EntriesThatAreNoTensorsAreNoted) {
  const TensorFile file = parse_body(dict({{"w", four()}, {"epoch", number(3)}}));
  ASSERT_EQ(file.notes.size(), 1U);
  EXPECT_TRUE(has(file.notes[0], "epoch"));
}

TEST(TorchArchive, TwoDictsOfTensorsAreAnErrorThatNamesThem) {
  const std::string message =
      body_error(dict({{"model", dict({{"w", four()}})}, {"module", dict({{"w", four()}})}}));
  EXPECT_TRUE(has(message, "\"model\", \"module\"")) << message;
  EXPECT_TRUE(has(message, "--state-key")) << message;
  EXPECT_TRUE(
      has(body_error(dict({{"w", four()}, {"model", dict({{"w", four()}})}})), "the top level, \"model\""));
}

TEST(TorchArchive, EntriesBesideTheStateDictAreNotedAsNoWeights) {
  const TensorFile file = parse_body(dict({{"epoch", number(3)},
                                           {"model_state_dict", dict({{"layers.0.w", four()}})},
                                           {"optimizer_states", dict({{"m", four()}})},
                                           {"rng_state", four()}}));
  ASSERT_EQ(file.tensors.size(), 1U);
  EXPECT_EQ(file.tensors[0].info.name, "layers.0.w");
  EXPECT_TRUE(file.is_training_checkpoint);
  ASSERT_EQ(file.notes.size(), 1U);
  EXPECT_TRUE(
      has(file.notes[0],
          "\"model_state_dict\"; what lies beside it is not read: epoch, optimizer_states, rng_state"))
      << file.notes[0];
  EXPECT_FALSE(parse_body(dict({{"w", four()}, {"epoch", number(3)}})).is_training_checkpoint);
}

TEST(TorchArchive, NoDictOfTensorsIsAnErrorThatNamesTheKeysThatHaveSome) {
  const std::string body =
      dict({{"ema", dict({{"w", four()}})}, {"run", dict({{"net", dict({{"w", four()}})}})}});
  const std::string message = body_error(body);
  EXPECT_TRUE(has(message, "ema, run.net")) << message;
  EXPECT_EQ(parse_body(body, "run.net").tensors.size(), 1U);
  EXPECT_TRUE(has(body_error(body, "run.nett"), "there is no key \"nett\""));
}

TEST(TorchArchive, StateKeyMayHaveDots) {
  EXPECT_EQ(parse_body(dict({{"a.b", dict({{"c", dict({{"w", four()}})}})}}), "a.b.c").tensors.size(), 1U);
}

TEST(TorchArchive, ModuleIsWalkedAndAbsentParametersAreSkipped) {
  const std::string child = module(dict({{"weight", four()}, {"bias", "N"}}), dict({}));
  const TensorFile file =
      parse_body(module(dict({}), dict({{"layers", module(dict({}), dict({{"0", child}}))}})));
  ASSERT_EQ(file.tensors.size(), 1U);
  EXPECT_EQ(file.tensors[0].info.name, "layers.0.weight");
}

TEST(TorchArchive, ModuleThatHoldsItselfIsAnError) {
  const std::string parameters = dict({{"w", four()}});
  const std::string body = global("m", "M") + ")\x81q\x09" +
                           dict({{"_parameters", parameters}, {"_modules", dict({{"a", "h\x09"}})}}) + "b";
  EXPECT_NE(body_error(body), "");
}

TEST(TorchArchive, ModulesThatDoubleAtEachLevelStopAtALimit) {
  std::string body = module(dict({{"w", four()}}), dict({})) + "q" + std::string(1, '\0') + "0";
  for (char level = 1; level < 60; ++level) {
    const std::string below = "h" + std::string(1, static_cast<char>(level - 1));
    body += module(dict({}), dict({{"a", below}, {"b", below}})) + "q" + std::string(1, level) + "0";
  }
  EXPECT_NE(body_error(body + "h" + std::string(1, 59)), "");
}

TEST(TorchArchive, PickleThatRunsCodeYieldsItsTensors) {
  const std::string bad = call(global("os", "system"), pickle::tuple({text("exit 1")}));
  EXPECT_EQ(parse_body(dict({{"bad", bad}, {"w", four()}})).tensors.size(), 1U);
}

TEST(TorchArchive, ParametersAndSubclassesAreUnwrapped) {
  const std::string parameter =
      call(global("torch._utils", "_rebuild_parameter"), pickle::tuple({four(), "\x88", dict({})}));
  const std::string arguments =
      pickle::tuple({storage("FloatStorage", "0", 4), number(0), pickle::tuple({4}), pickle::tuple({1})});
  const std::string subclass = call(
      global("torch._tensor", "_rebuild_from_type_v2"),
      pickle::tuple({global("torch._utils", "_rebuild_tensor_v2"), global("m", "T"), arguments, dict({})}));
  EXPECT_EQ(parse_body(dict({{"p", parameter}, {"s", subclass}})).tensors.size(), 2U);
}

TEST(TorchArchive, OtherKindsOfTensorsAreAnErrorThatNamesOne) {
  const std::string sparse =
      call(global("torch._utils", "_rebuild_sparse_tensor"), pickle::tuple({number(1)}));
  EXPECT_TRUE(has(body_error(dict({{"w", four()}, {"s", sparse}})), "tensor \"s\""));
}

TEST(TorchArchive, TensorThatReachesOutsideItsStorageIsAnError) {
  EXPECT_TRUE(has(tensor_error(0, {5}, {1}), "reach to 5, its storage has 4"));
  EXPECT_TRUE(has(tensor_error(1, {4}, {1}), "reach to 5"));
  EXPECT_TRUE(has(tensor_error(0, {2, 2}, {3, 1}), "reach to 5"));
  EXPECT_NE(tensor_error(-1, {1}, {1}), "");
  EXPECT_NE(tensor_error(0, {2}, {-1}), "");
  EXPECT_NE(tensor_error(0, {-2}, {1}), "");
  EXPECT_NE(tensor_error(INT64_MAX, {2}, {1}), "");
  EXPECT_NE(tensor_error(INT64_MAX, {2}, {2}), "");
  EXPECT_NE(tensor_error(0, {2}, {INT64_MAX}), "");
  EXPECT_NE(tensor_error(0, {INT64_MAX, 4}, {0, 1}), "");
}

TEST(TorchArchive, StridesThatDisagreeWithSizesAreAnError) {
  EXPECT_TRUE(has(tensor_error(0, {2, 2}, {1}), "2 sizes but 1 strides"));
}

TEST(TorchArchive, TensorThatRepeatsFewBytesManyTimesIsAnError) {
  EXPECT_TRUE(has(tensor_error(0, {1 << 20, 1 << 10}, {0, 0}), "repeats 16 stored bytes to 4294967296"));
}

TEST(TorchArchive, RecordThatDisagreesWithThePickleIsAnErrorWithBothNumbers) {
  const std::string body = dict({{"w", tensor(storage("FloatStorage", "0", 5), 0, {4}, {1})}});
  EXPECT_TRUE(has(body_error(body), "16 bytes, the pickle says 20"));
}

TEST(TorchArchive, MissingRecordIsAnErrorThatNamesIt) {
  const std::string body = dict({{"w", tensor(storage("FloatStorage", "../7", 4), 0, {4}, {1})}});
  EXPECT_TRUE(has(body_error(body), "no entry \"m/data/../7\""));
}

TEST(TorchArchive, UnknownStorageTypeIsAnErrorThatNamesIt) {
  const std::string body = dict({{"w", tensor(storage("ComplexFloatStorage", "0", 2), 0, {2}, {1})}});
  EXPECT_TRUE(has(body_error(body), "ComplexFloatStorage"));
}

TEST(TorchArchive, BigEndianFileIsAnError) {
  const std::string bytes = zip(
      {{.name = "m/data.pkl", .data = pickle::program(dict({}))}, {.name = "m/byteorder", .data = "big"}});
  EXPECT_TRUE(has(error_of([&] { parse_torch_archive(source_of(bytes), ""); }), "\"big\""));
}

TEST(TorchArchive, CompressedPickleIsAnError) {
  const std::string bytes = zip({{.name = "m/data.pkl", .data = "x", .method = 8}});
  EXPECT_TRUE(has(error_of([&] { parse_torch_archive(source_of(bytes), ""); }), "compressed"));
}

TEST(TorchArchive, FlippedBitInThePickleIsAnError) {
  const std::string bytes =
      zip({{.name = "m/data.pkl", .data = pickle::program(dict({{"w", four()}})), .crc_flip = 1}});
  EXPECT_TRUE(has(error_of([&] { parse_torch_archive(source_of(bytes), ""); }), "checksum"));
}

TEST(TorchArchive, ArchiveWithTwoPicklesOrNoneIsAnError) {
  const std::string two = zip({{.name = "a/data.pkl", .data = "N."}, {.name = "b/data.pkl", .data = "N."}});
  EXPECT_TRUE(has(error_of([&] { parse_torch_archive(source_of(two), ""); }), "two pickles"));
  const std::string none = zip({{.name = "a/readme", .data = "x"}});
  EXPECT_TRUE(has(error_of([&] { parse_torch_archive(source_of(none), ""); }), "without data.pkl"));
}

TEST(TorchArchive, TorchScriptIsAnErrorWithAWayOut) {
  const std::string bytes =
      zip({{.name = "m/data.pkl", .data = "\x80\x02N."}, {.name = "m/constants.pkl", .data = "\x80\x02)."}});
  EXPECT_TRUE(has(error_of([&] { parse_torch_archive(source_of(bytes), ""); }), "TorchScript"));
}

TensorFile parse_legacy(const std::string& bytes) {
  return parse_torch_legacy(source_of(bytes), "");
}
std::string legacy_error(const std::string& bytes) {
  return error_of([&] { parse_legacy(bytes); });
}

TEST(TorchLegacy, StoragesFollowThePicklesInTheOrderOfTheirKeys) {
  const std::string body = dict({{"a", tensor(storage("HalfStorage", "one", 2), 0, {2}, {1})},
                                 {"b", tensor(storage("ByteStorage", "two", 3), 1, {2}, {1})}});
  const std::string bytes =
      torch_legacy(body, {"two", "one"}, le<int64_t>(3) + "abc" + le<int64_t>(2) + "defg");
  const TensorFile file = parse_legacy(bytes);
  ASSERT_EQ(file.tensors.size(), 2U);
  EXPECT_EQ(file.storages[file.tensors[0].storage].offset, bytes.size() - 4);
  EXPECT_EQ(file.storages[file.tensors[1].storage].offset, bytes.size() - 4 - 8 - 3);
}

TEST(TorchLegacy, EveryTruncationIsAnError) {
  const std::string bytes = torch_legacy(dict({{"w", four()}}), {"0"}, le<int64_t>(4) + kSixteen);
  EXPECT_EQ(parse_legacy(bytes).tensors.size(), 1U);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_NE(legacy_error(bytes.substr(0, length)), "") << length;
  }
}

TEST(TorchLegacy, CountThatDisagreesWithThePickleIsAnErrorWithBothNumbers) {
  const std::string bytes = torch_legacy(dict({{"w", four()}}), {"0"}, le<int64_t>(-1) + kSixteen);
  EXPECT_TRUE(has(legacy_error(bytes), "18446744073709551615 elements, the pickle says 4"));
}

TEST(TorchLegacy, KeyThatIsMissingUnknownOrListedTwiceIsAnError) {
  const std::string body = dict({{"w", four()}});
  EXPECT_TRUE(has(legacy_error(torch_legacy(body, {}, "")), "does not hold it"));
  EXPECT_TRUE(has(legacy_error(torch_legacy(body, {"9"}, le<int64_t>(4))), "no tensor refers to it"));
  const std::string twice = le<int64_t>(4) + kSixteen + le<int64_t>(4) + kSixteen;
  EXPECT_TRUE(has(legacy_error(torch_legacy(body, {"0", "0"}, twice)), "listed twice"));
}

TEST(TorchLegacy, ViewOfAStorageAddsItsOffset) {
  const std::string view = pickle::tuple({text("v"), number(2), number(2)});
  const std::string identifier = pickle::tuple({text("storage"), global("torch", "FloatStorage"), text("0"),
                                                text("cpu"), number(4), view}) +
                                 "Q";
  const std::string good =
      torch_legacy(dict({{"w", tensor(identifier, 1, {1}, {1})}}), {"0"}, le<int64_t>(4) + kSixteen);
  EXPECT_EQ(parse_legacy(good).tensors[0].first_element, 3);
}

TEST(TorchLegacy, PlainPickleIsAnError) {
  EXPECT_TRUE(has(legacy_error(pickle::program(dict({}))), "not one that torch.save wrote"));
}

}  // namespace
}  // namespace ptq
