#include "ptq/artifact/safetensors_spool.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "ptq/model/weight.h"

namespace ptq {
namespace {

constexpr int64_t kOneFile = SafetensorsSpool::kOneFile;

// Bytes: 6 of I8, 24 of F32, 8 of F16, 12 of F32; none.
const std::vector<std::pair<std::string, Tensor>>& samples() {
  static const std::vector<std::pair<std::string, Tensor>> tensors = {
      {"codes", at::arange(6).to(at::kChar).view({2, 3})},
      {"z", at::arange(6, at::kFloat).view({2, 3})},
      {"half", at::arange(4).to(at::kHalf)},
      {"a", at::arange(3, at::kFloat)},
      {"empty", at::empty({0, 4}, at::kByte)}};
  return tensors;
}

void add_samples(SafetensorsSpool& spool, size_t begin = 0, size_t end = 5) {
  for (size_t i = begin; i < end; ++i) spool.add(samples()[i].first, samples()[i].second);
}

std::vector<std::string> names_of(const SafetensorsSpool::File& file) {
  std::vector<std::string> names;
  for (const auto& [info, offset] : file.entries) names.push_back(info.name);
  return names;
}

class Spool : public ::testing::Test {
 protected:
  const TempDirectory directory_;
  const std::string path_ = directory_ / "spool";

  // Writes what the spool holds into the output `name`.
  std::vector<std::string> write(SafetensorsSpool& spool, const std::string& name) const {
    OutputDirectory output(directory_ / name, false);
    std::vector<std::string> files = spool.write(output);
    output.commit();
    return files;
  }
  void expect_samples(const std::string& name) const {
    const auto checkpoint = open_checkpoint(directory_ / name, CheckpointOptions::of_any_tensors());
    ASSERT_EQ(checkpoint->tensors().size(), samples().size());
    for (const auto& [tensor, values] : samples())
      EXPECT_TRUE(as_tensor(checkpoint->read(tensor)).equal(values)) << tensor;
  }
};

TEST_F(Spool, WideTypesComeFirstThenNames) {
  SafetensorsSpool spool(kOneFile, path_);
  add_samples(spool);
  const auto files = spool.files();
  ASSERT_EQ(files.size(), 1U);
  EXPECT_EQ(names_of(files[0]), (std::vector<std::string>{"a", "z", "half", "codes", "empty"}));
  EXPECT_EQ(spool.index(), "");
  EXPECT_EQ(write(spool, "out"), std::vector<std::string>{"model.safetensors"});
  expect_samples("out");
  EXPECT_EQ(static_cast<int64_t>(std::filesystem::file_size(directory_ / "out/model.safetensors")),
            files[0].bytes());
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(Spool, ShardsHoldNoMoreThanTheyMayButForASingleTensor) {
  SafetensorsSpool spool(20, path_);
  add_samples(spool);
  const auto files = spool.files("weights");
  ASSERT_EQ(files.size(), 3U);  // 12; 24; 8 + 6
  EXPECT_EQ(names_of(files[1]), std::vector<std::string>{"z"});
  EXPECT_EQ(files[1].name, "weights-00002-of-00003.safetensors");
  EXPECT_EQ(write(spool, "out").size(), 3U);
  expect_samples("out");
  const Json index = read_json_file(directory_ / "out/model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 50);
  EXPECT_EQ(index["weight_map"]["z"], "model-00002-of-00003.safetensors");
}

TEST_F(Spool, FromShapesAloneTellsWhatIsWritten) {
  for (const int64_t max_shard_bytes : {int64_t{20}, kOneFile}) {
    SafetensorsSpool shapes(max_shard_bytes), spool(max_shard_bytes, path_);
    for (const auto& [name, tensor] : samples()) shapes.add(name, tensor.to(at::kMeta));
    add_samples(spool);
    EXPECT_EQ(shapes.tensor_bytes(), 50);
    EXPECT_EQ(shapes.index(), spool.index());
    const auto expected = shapes.files(), files = spool.files();
    ASSERT_EQ(files.size(), expected.size());
    for (size_t i = 0; i < files.size(); ++i) EXPECT_EQ(files[i].header, expected[i].header);
    std::filesystem::remove(path_);
  }
}

TEST_F(Spool, WithinAnOutputItsFileGoes) {
  OutputDirectory output(directory_ / "out", false);
  SafetensorsSpool spool = SafetensorsSpool::within(output, kOneFile);
  add_samples(spool);
  EXPECT_EQ(output.files().size(), 1U);
  spool.write(output, "adapter");
  EXPECT_EQ(output.files(), std::vector<std::string>{"adapter.safetensors"});
}

TEST_F(Spool, NothingIsAFileWithoutTensors) {
  SafetensorsSpool spool(kOneFile, path_);
  EXPECT_EQ(write(spool, "out").size(), 1U);
  EXPECT_TRUE(open_checkpoint(directory_ / "out", CheckpointOptions::of_any_tensors())->tensors().empty());
}

TEST_F(Spool, SameNameTwiceIsABug) {
  SafetensorsSpool spool(kOneFile);
  spool.add("a", at::zeros({2}));
  EXPECT_ERROR(spool.add("a", at::zeros({2})), ExitCode::kBug, "a: is stored twice");
}

TEST_F(Spool, GoesOnFromAFlush) {
  Json state;
  {
    SafetensorsSpool spool(20, path_);
    add_samples(spool, 0, 2);
    spool.flush();
    add_samples(spool, 2, 3);
    state = spool.flush();
    spool.add("lost", at::ones({7}));
  }
  EXPECT_EQ(state["segments"].size(), 2U);
  SafetensorsSpool spool(20, path_, parse_json(state.dump(), "state"));
  EXPECT_EQ(spool.state(), state);
  EXPECT_EQ(std::filesystem::file_size(path_), 38U);
  add_samples(spool, 3);
  write(spool, "resumed");
  expect_samples("resumed");
  SafetensorsSpool whole(20, directory_ / "whole spool");
  add_samples(whole);
  for (const std::string& name : write(whole, "whole"))
    EXPECT_TRUE(directory_.read("whole/" + name) == directory_.read("resumed/" + name)) << name;
}

struct Falsehood {
  const char* words;  // of the error
  void (*tell)(Json& state);
};

const Falsehood kFalsehoods[] = {
    {"unknown key \"colour\"", [](Json& state) { state["colour"] = 1; }},
    {"\"segments\" is missing", [](Json& state) { state.erase("segments"); }},
    {"has a segment without bytes and hash", [](Json& state) { state["segments"] = "all"; }},
    {"has a segment without bytes and hash", [](Json& state) { state["segments"][0][0] = "6"; }},
    {"30 bytes; -1 at 0 are expected", [](Json& state) { state["segments"][0][0] = -1; }},
    {"30 bytes; 31 at 0 are expected", [](Json& state) { state["segments"][0][0] = 31; }},
    {"is damaged before byte 29", [](Json& state) { state["segments"][0][0] = 29; }},
    {"codes lies past its end", [](Json& state) { state["segments"] = Json::array(); }},
    {"has a tensor without name, type and shape", [](Json& state) { state["entries"][0][0] = 3; }},
    {"\"Q3\" is not a type", [](Json& state) { state["entries"][0][1] = "Q3"; }},
    {"of the shape [-1,3]", [](Json& state) { state["entries"][0][2] = {-1, 3}; }},
    {"of the shape", [](Json& state) { state["entries"][0][2] = {int64_t{1} << 40, int64_t{1} << 40}; }},
    {"codes lies past its end", [](Json& state) { state["entries"][0][2] = {2, 300}; }},
    {"codes is listed twice", [](Json& state) { state["entries"][1] = state["entries"][0]; }},
    {"30 bytes are expected, its tensors have 24", [](Json& state) { state["entries"].erase(0); }},
};

TEST_F(Spool, StateThatNoFlushReturnsIsAnError) {
  Json state;
  {
    SafetensorsSpool spool(kOneFile, path_);
    add_samples(spool, 0, 2);
    state = spool.flush();
  }
  for (const Falsehood& falsehood : kFalsehoods) {
    SCOPED_TRACE(falsehood.words);
    Json changed = state;
    falsehood.tell(changed);
    EXPECT_ERROR(SafetensorsSpool(kOneFile, path_, changed), ExitCode::kFailed, falsehood.words);
  }
  EXPECT_EQ(SafetensorsSpool(kOneFile, path_, state).tensor_bytes(), 30);
}

TEST_F(Spool, DamagedOrShortenedFileIsAnError) {
  Json state;
  {
    SafetensorsSpool spool(kOneFile, path_);
    add_samples(spool, 0, 2);
    state = spool.flush();
  }
  const std::string whole = directory_.read("spool");
  std::string damaged = whole;
  damaged[17] ^= 1;
  directory_.write("spool", damaged);
  EXPECT_ERROR(SafetensorsSpool(kOneFile, path_, state), ExitCode::kFailed, "is damaged before byte 30");
  directory_.write("spool", whole.substr(0, 29));
  EXPECT_ERROR(SafetensorsSpool(kOneFile, path_, state), ExitCode::kFailed, "has 29 bytes");
  EXPECT_EQ(directory_.read("spool").size(), 29U);
}

}  // namespace
}  // namespace ptq
