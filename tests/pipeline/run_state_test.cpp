#include "pipeline/run_state.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/hash.h"
#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kShardBytes = 1 << 30;
constexpr WindowSplit kSplit = {.calibrated = 2, .held_out = 1};
const Json kIdentity = {{"program", {{"version", "1.0"}}}, {"seed", 0}};

std::string hash_of(const std::string& text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

// The state after the sample model's first block, in `.q.partial`.
class RunStateTest : public ::testing::Test {
 protected:
  RunStateTest() : open_(open_model(PTQ_TEST_DIR "/../data/mamba-1m/model.pt", {}, at::kCPU)) {
    const at::InferenceMode inference;
    WorkDirectory work(directory_ / "q");
    OutputDirectory output(directory_ / "q", false, work.path("output"));
    RunState state(work, kIdentity);
    saved_.windows = {at::arange(24).view({3, 8}), kSplit, {{"source", "a text"}}};
    saved_.streams.floats = Stream(embed_windows(*open_.model, saved_.windows.ids), kSplit);
    saved_.writer = state.make_writer(output, kShardBytes);
    saved_.writer->add(*open_.model->load_block(0));
    saved_.finished = 1;
    report_.layers.resize(1);
    report_.layers[0].name = "a layer";
    report_.blocks.resize(1);
    times_.add("rtn", 12.5);
    state.save(saved_, report_, times_);
    fs::copy(work.path(), directory_ / "copy", fs::copy_options::recursive);
  }

  void restore() const {
    fs::remove_all(directory_ / ".q.partial");
    fs::copy(directory_ / "copy", directory_ / ".q.partial", fs::copy_options::recursive);
  }
  // Gives the state a right hash over what `change` has made of it.
  void rewrite(const std::function<void(Json&)>& change) const {
    restore();
    Json document = parse_json(directory_.read(".q.partial/state").substr(65), "state");
    change(document);
    directory_.write(".q.partial/state", hash_of(document.dump()) + "\n" + document.dump());
  }
  BlockLoop empty_loop() const { return BlockLoop(open_.model->hidden_size()); }
  BlockLoop load(Report& report, StageTimes& times, const Json& identity = kIdentity) const {
    const at::InferenceMode inference;
    WorkDirectory work(directory_ / "q");
    OutputDirectory output(directory_ / "q", false, work.path("output"));
    RunState state(work, identity);
    BlockLoop loop = empty_loop();
    state.load(*open_.model, output, kShardBytes, loop, report, times);
    return loop;
  }
  void expect_refused(const std::string& words, const Json& identity = kIdentity) const {
    Report report;
    StageTimes times;
    const std::string before = directory_.read(".q.partial/state");
    EXPECT_ERROR(load(report, times, identity), ExitCode::kFailed, words);
    EXPECT_EQ(directory_.read(".q.partial/state"), before);
  }

  const TempDirectory directory_;
  const OpenModel open_;
  BlockLoop saved_ = empty_loop();
  Report report_;
  StageTimes times_;
};

TEST_F(RunStateTest, WhatWasSavedIsLoaded) {
  Report report;
  StageTimes times;
  times.add("load", 1);
  const BlockLoop loop = load(report, times);
  EXPECT_EQ(loop.finished, 1);
  EXPECT_TRUE(loop.windows.ids.equal(saved_.windows.ids));
  EXPECT_EQ(loop.windows.split, kSplit);
  EXPECT_TRUE(loop.streams.floats.hidden().equal(saved_.streams.floats.hidden()));
  EXPECT_EQ(loop.streams.floats.calibrated().size(0), 2);
  EXPECT_EQ(loop.streams.floats.held_out().size(0), 1);
  EXPECT_EQ(report.calibration, saved_.windows.json);
  EXPECT_EQ(report.layers.at(0).name, "a layer");
  EXPECT_EQ(times.totals_ms(), (std::vector<std::pair<std::string, double>>{{"rtn", 12.5}, {"load", 1}}));
}

TEST_F(RunStateTest, OnlyTheStreamOfTheLastBlockStays) {
  {
    const at::InferenceMode inference;
    WorkDirectory work(directory_ / "q");
    OutputDirectory output(directory_ / "q", false, work.path("output"));
    RunState state(work, kIdentity);
    BlockLoop loop = empty_loop();
    directory_.write(".q.partial/stream-2", "of a block that was not finished");
    state.load(*open_.model, output, kShardBytes, loop, report_, times_);
    EXPECT_FALSE(fs::exists(work.path("stream-2")));
    loop.writer->add(*open_.model->load_block(1));
    loop.finished = 2;
    report_.blocks.resize(2);
    state.save(loop, report_, times_);
    EXPECT_FALSE(fs::exists(work.path("stream-1")));
  }
  EXPECT_EQ(load(report_, times_).finished, 2);
}

TEST_F(RunStateTest, SpoolPastTheLastBlockIsDropped) {
  const std::string spool = directory_.read("copy/tensors.spool");
  directory_.write(".q.partial/tensors.spool", spool + "half a block");
  Report report;
  StageTimes times;
  load(report, times);
  EXPECT_TRUE(directory_.read(".q.partial/tensors.spool") == spool);
}

TEST_F(RunStateTest, FlippedBitsAndTruncatedOrMissingFilesAreFound) {
  for (const std::string name : {"state", "windows", "stream-1", "tensors.spool"}) {
    const std::string file = ".q.partial/" + name, whole = directory_.read("copy/" + name);
    for (size_t i = 0; i <= 8; ++i) {
      restore();
      std::string damaged = whole;
      damaged[std::min(i * whole.size() / 8, whole.size() - 1)] ^= 4;
      directory_.write(file, damaged);
      expect_refused(name);
    }
    for (const size_t size : {size_t{0}, whole.size() / 2, whole.size() - 1}) {
      directory_.write(file, whole.substr(0, size));
      expect_refused(name);
    }
    fs::remove(directory_ / file);
    if (name != "state") expect_refused(name);
  }
}

TEST_F(RunStateTest, WindowsThatAllServeForBothAreLoadedSo) {
  rewrite([](Json& state) { state["windows"]["calibrated"] = state["windows"]["held_out"] = 3; });
  Report report;
  StageTimes times;
  const BlockLoop loop = load(report, times);
  EXPECT_EQ(loop.windows.split, WindowSplit::measured_on_calibrated(3));
  EXPECT_EQ(loop.streams.floats.held_out().size(0), 3);
}

TEST_F(RunStateTest, AnotherIdentityIsNamed) {
  Json identity = kIdentity;
  identity["seed"] = 7;
  expect_refused("holds the state of another run: seed is 0 there, 7 here", identity);
  identity["program"]["version"] = "2.0";
  expect_refused("program.version is \"1.0\" there, \"2.0\" here; seed is 0 there", identity);
  identity["program"] = nullptr;
  identity["device"] = std::string(1000, 'x');
  expect_refused("device is absent there", identity);
}

TEST_F(RunStateTest, AnotherFormatIsRefused) {
  rewrite([](Json& state) { state["format"] = 1; });
  expect_refused("format is not 3");
  rewrite([](Json& state) { state = Json::array(); });
  expect_refused("format is not 3");
}

struct Falsehood {
  const char* name;
  void (*tell)(Json& state);
};

// What no run writes, under a right hash.
const Falsehood kFalsehoods[] = {
    {"MoreBlocksThanTheModelHas", [](Json& state) { state["finished"] = 5; }},
    {"FewerBlocksThanNone", [](Json& state) { state["finished"] = -1; }},
    {"MoreBlocksThanTheReport", [](Json& state) { state["finished"] = 2; }},
    {"NoWindows", [](Json& state) { state.erase("windows"); }},
    {"WindowsThatAreANumber", [](Json& state) { state["windows"] = 7; }},
    {"MoreWindowsThanTheFile", [](Json& state) { state["windows"]["windows"] = 1'000'000; }},
    {"LengthOverflow", [](Json& state) { state["windows"]["length"] = 1e300; }},
    {"MoreHeldOutThanWindows", [](Json& state) { state["windows"]["held_out"] = 4; }},
    {"NoneHeldOut", [](Json& state) { state["windows"]["held_out"] = 0; }},
    {"MoreCalibratedThanWindows", [](Json& state) { state["windows"]["calibrated"] = 4; }},
    {"NoneCalibrated", [](Json& state) { state["windows"]["calibrated"] = 0; }},
    {"SplitThatLeavesAWindowOut", [](Json& state) { state["windows"]["calibrated"] = 1; }},
    {"SplitThatOverlapsInAWindow", [](Json& state) { state["windows"]["calibrated"] = 3; }},
    {"HashThatIsANumber", [](Json& state) { state["windows"]["sha256"] = 3; }},
    {"NoHash", [](Json& state) { state["stream"].erase("sha256"); }},
    {"StreamOutsideOfTheDirectory", [](Json& state) { state["stream"]["file"] = "../../etc/passwd"; }},
    {"StreamInASubdirectory", [](Json& state) { state["stream"]["file"] = "stream-/../../x"; }},
    {"StreamThatIsMissing", [](Json& state) { state["stream"]["file"] = "stream-77"; }},
    {"UnknownKey", [](Json& state) { state["stream"]["colour"] = 1; }},
    {"SegmentPastTheEnd", [](Json& state) { state["writer"]["spool"]["segments"][0][0] = int64_t{1} << 60; }},
    {"NegativeSegment", [](Json& state) { state["writer"]["spool"]["segments"][0][0] = -1; }},
    {"SegmentsThatAreText", [](Json& state) { state["writer"]["spool"]["segments"] = "all"; }},
    {"NoSegments", [](Json& state) { state["writer"]["spool"]["segments"] = Json::array(); }},
    {"UnknownDtype", [](Json& state) { state["writer"]["spool"]["entries"][0][1] = "Q3"; }},
    {"ShapeOverflow",
     [](Json& state) { state["writer"]["spool"]["entries"][0][2] = {int64_t{1} << 40, int64_t{1} << 40}; }},
    {"NegativeShape", [](Json& state) { state["writer"]["spool"]["entries"][0][2] = {-1, 3}; }},
    {"TensorPastTheEnd", [](Json& state) { state["writer"]["spool"]["entries"][0][2] = {10'000, 10'000}; }},
    {"TensorMissing", [](Json& state) { state["writer"]["spool"]["entries"].erase(0); }},
    {"WeightsThatAreANumber", [](Json& state) { state["writer"]["weights"] = 3; }},
    {"NoWriter", [](Json& state) { state["writer"] = nullptr; }},
    {"BitsThatAreText", [](Json& state) { state["report"]["layers"][0]["bits"] = "many"; }},
    {"ReportThatIsAList", [](Json& state) { state["report"] = Json::array(); }},
    {"TimesWithoutStage", [](Json& state) { state["times"] = {1, 2}; }},
};

TEST_F(RunStateTest, FalsehoodsUnderARightHashAreErrors) {
  for (const Falsehood& falsehood : kFalsehoods) {
    SCOPED_TRACE(falsehood.name);
    rewrite(falsehood.tell);
    expect_refused(".q.partial: cannot be resumed from: ");
  }
}

TEST_F(RunStateTest, IdsOutsideOfTheVocabularyAreAnError) {
  std::string windows = directory_.read("copy/windows");
  windows[7] = 1;
  rewrite([&](Json& state) { state["windows"]["sha256"] = hash_of(windows); });
  directory_.write(".q.partial/windows", windows);
  expect_refused("outside of the vocabulary");
}

}  // namespace
}  // namespace ptq
