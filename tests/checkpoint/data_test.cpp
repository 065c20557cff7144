// Files that PyTorch wrote (make_data.py), compared with what PyTorch says is in them.
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>

#include "ptq/checkpoint/checkpoint.h"

namespace ptq {
namespace {

const std::string kData = std::string(PTQ_TEST_DIR) + "/data/";

// "NAME TYPE [SHAPE] CRC", as in expected.txt.
std::string description(const Checkpoint& checkpoint, const std::string& name) {
  const TensorBytes tensor = checkpoint.read(name);
  std::string shape;
  for (const int64_t size : tensor.info.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
  uLong crc = ::crc32(0, nullptr, 0);
  if (!tensor.bytes.empty()) {
    crc = ::crc32_z(crc, reinterpret_cast<const Bytef*>(tensor.bytes.data()), tensor.bytes.size());
  }
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08lx", crc);
  return name + " " + dtype_name(tensor.info.dtype) + " [" + shape + "] " + digits;
}

std::map<std::string, std::vector<std::string>> expected() {
  std::map<std::string, std::vector<std::string>> files;
  std::ifstream lines(kData + "expected.txt");
  for (std::string file, rest; lines >> file && std::getline(lines >> std::ws, rest);)
    files[file].push_back(rest);
  return files;
}

class TorchFile : public ::testing::TestWithParam<bool> {};

TEST_P(TorchFile, EveryTensorHasTheBytesThatTorchSays) {
  const auto files = expected();
  ASSERT_GE(files.size(), 15U);
  for (const auto& [file, tensors] : files) {
    CheckpointOptions options;
    options.use_mmap = GetParam();
    if (file == "deep.pt") options.state_key = "run.weights.ema";
    const auto checkpoint = open_checkpoint(kData + file, options);
    std::vector<std::string> found;
    for (const TensorInfo& tensor : checkpoint->tensors())
      found.push_back(description(*checkpoint, tensor.name));
    EXPECT_EQ(found, tensors) << file;
  }
}

INSTANTIATE_TEST_SUITE_P(MappedAndRead, TorchFile, ::testing::Bool());

TEST(TorchData, SharedStorageIsATie) {
  for (const char* file : {"tied.pt", "protocol4.pt", "legacy.pt"}) {
    const auto checkpoint = open_checkpoint(kData + file);
    const std::vector<std::vector<std::string>> ties = {{"backbone.embedding.weight", "lm_head.weight"}};
    EXPECT_EQ(checkpoint->ties(), ties) << file;
  }
}

TEST(TorchData, DifferentViewsOfOneStorageAreNoTie) {
  EXPECT_TRUE(open_checkpoint(kData + "strided.pt")->ties().empty());
}

TEST(TorchData, PickleThatRunsCodeIsNotedAndInert) {
  const auto checkpoint = open_checkpoint(kData + "runs_code.pt");
  EXPECT_EQ(checkpoint->notes(), std::vector<std::string>{"ignored what is no tensor: bad"});
  EXPECT_FALSE(std::ifstream("pickle_ran_code").good());
}

TEST(TorchData, ContiguousAlignedTensorIsNotCopied) {
  const auto checkpoint = open_checkpoint(kData + "tied.pt");
  EXPECT_EQ(checkpoint->read("lm_head.weight").bytes.data(),
            checkpoint->read("backbone.embedding.weight").bytes.data());
}

}  // namespace
}  // namespace ptq
