// open_checkpoint: which file is read, how, and what is said about it.
#include <gtest/gtest.h>

#include "builders.h"
#include "ptq/checkpoint/checkpoint.h"

namespace ptq {
namespace {

using namespace ::ptq::testing;

// A safetensors file of one-byte tensors, whose data are the first letters of `data`.
std::string bytes_file(const std::vector<std::string>& names, const std::string& data = "abcdefgh") {
  std::string header;
  for (size_t i = 0; i < names.size(); ++i) {
    header += (i > 0 ? ",\"" : "\"") + names[i] + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  return safetensors("{" + header + "}", data.substr(0, names.size()));
}

std::string torch_file(const std::string& name) {
  const std::string tensor = pickle::tensor(pickle::storage("ByteStorage", "0", 1), 0, {1}, {1});
  return torch_archive(pickle::dict({{name, tensor}}), {{"0", "t"}});
}

std::string index_file(const std::vector<std::pair<std::string, std::string>>& map) {
  std::string text;
  for (const auto& [tensor, file] : map)
    text += (text.empty() ? "\"" : ",\"") + tensor + "\":\"" + file + "\"";
  return R"({"metadata":{"total_size":3},"weight_map":{)" + text + "}}";
}

std::string content(const Checkpoint& checkpoint, const std::string& name) {
  const TensorBytes tensor = checkpoint.read(name);
  return std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
}

std::string open_error(const std::string& path, const CheckpointOptions& options = {}) {
  return error_of([&] { open_checkpoint(path, options); });
}

TEST(OpenCheckpoint, DirectoryIsReadInTheOrderOfTransformers) {
  const TempDir dir;
  const auto files = [&] {
    std::string names;
    const auto checkpoint = open_checkpoint(dir.path());
    for (const std::string& path : checkpoint->files())
      names += std::filesystem::path(path).filename().string() + " ";
    return names;
  };
  dir.write("any.pt", torch_file("w"));
  EXPECT_EQ(files(), "any.pt ");
  dir.write("part.bin", torch_file("w"));
  dir.write("pytorch_model.bin.index.json", index_file({{"w", "part.bin"}}));
  EXPECT_EQ(files(), "pytorch_model.bin.index.json part.bin ");
  dir.write("pytorch_model.bin", torch_file("w"));
  EXPECT_EQ(files(), "pytorch_model.bin ");
  dir.write("part.safetensors", bytes_file({"w"}));
  dir.write("model.safetensors.index.json", index_file({{"w", "part.safetensors"}}));
  EXPECT_EQ(files(), "model.safetensors.index.json part.safetensors ");
  dir.write("model.safetensors", bytes_file({"w"}));
  EXPECT_EQ(files(), "model.safetensors ");
}

TEST(OpenCheckpoint, SecondFormOfTheSameFormatIsAWarningAndOfAnotherANote) {
  const TempDir dir;
  dir.write("model.safetensors", bytes_file({"w"}));
  dir.write("pytorch_model.bin", torch_file("w"));
  EXPECT_TRUE(open_checkpoint(dir.path())->warnings().empty());
  ASSERT_EQ(open_checkpoint(dir.path())->notes().size(), 1U);
  EXPECT_TRUE(
      has(open_checkpoint(dir.path())->notes()[0], "pytorch_model.bin, which lies beside it, is not"));
  dir.write("part.safetensors", bytes_file({"w"}));
  dir.write("model.safetensors.index.json", index_file({{"w", "part.safetensors"}}));
  ASSERT_EQ(open_checkpoint(dir.path())->warnings().size(), 1U);
  EXPECT_TRUE(
      has(open_checkpoint(dir.path())->warnings()[0], "model.safetensors.index.json, which lies beside"));
}

TEST(OpenCheckpoint, SecondFormWithOtherTensorsIsAnErrorAndOneThatCannotBeReadANote) {
  const TempDir dir;
  dir.write("model.safetensors", bytes_file({"v", "w"}));
  const std::string other = dir.write("pytorch_model.bin", torch_file("w"));
  EXPECT_TRUE(
      has(open_error(dir.path()),
          "model.safetensors and pytorch_model.bin hold different tensors: v is only in model.safetensors"));
  EXPECT_EQ(open_checkpoint(dir.path("model.safetensors"))->tensors().size(), 2U);
  dir.write("model.safetensors", bytes_file({"lm_head.weight", "w"}));  // a head that may be tied
  EXPECT_EQ(open_checkpoint(dir.path())->tensors().size(), 2U);
  dir.write("pytorch_model.bin", "version https://git-lfs.github.com/spec/v1\n");
  EXPECT_TRUE(has(open_checkpoint(dir.path())->notes()[0], "Git LFS"));
}

TEST(OpenCheckpoint, SeveralFilesOfWeightsAreAnErrorThatNamesThem) {
  const TempDir dir;
  dir.write("a.pt", torch_file("a"));
  dir.write("b.pt", torch_file("b"));
  EXPECT_TRUE(has(open_error(dir.path()), "2 files could be the checkpoint: a.pt, b.pt"));
}

TEST(OpenCheckpoint, OnlyPtFileIsReadBesideOthersWithAWarning) {
  const TempDir dir;
  dir.write("a.pt", torch_file("a"));
  dir.write("b.safetensors", bytes_file({"b"}));
  const auto checkpoint = open_checkpoint(dir.path());
  EXPECT_NE(checkpoint->find("a"), nullptr);
  ASSERT_EQ(checkpoint->warnings().size(), 1U);
  EXPECT_TRUE(has(checkpoint->warnings()[0], "b.safetensors"));
}

TEST(OpenCheckpoint, StateOfTrainingIsNoCheckpoint) {
  const TempDir dir;
  for (const char* name : {"optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin"})
    dir.write(name, torch_file("m"));
  EXPECT_TRUE(has(open_error(dir.path()), "no checkpoint in the directory"));
  dir.write("epoch3.ckpt", torch_file("w"));
  EXPECT_NE(open_checkpoint(dir.path())->find("w"), nullptr);
}

TEST(OpenCheckpoint, EmptyDirectoryAndMissingFileAreErrors) {
  const TempDir dir;
  EXPECT_TRUE(has(open_error(dir.path()), "no model.safetensors, model.safetensors.index.json"));
  EXPECT_TRUE(has(open_error(dir.path()), "it is empty"));
  EXPECT_TRUE(has(open_error(dir.path("none.pt")), "none.pt: cannot open"));
}

TEST(OpenCheckpoint, KindIsToldFromTheFirstBytesAndNotTheName) {
  const TempDir dir;
  EXPECT_EQ(open_checkpoint(dir.write("model.pt", bytes_file({"safe"})))->tensors()[0].name, "safe");
  EXPECT_EQ(open_checkpoint(dir.write("model.safetensors", torch_file("zip")))->tensors()[0].name, "zip");
}

TEST(OpenCheckpoint, OtherKindsAreErrorsThatNameThem) {
  const TempDir dir;
  const std::string tar = std::string(257, 'x') + "ustar" + std::string(300, 'x');
  EXPECT_TRUE(has(open_error(dir.write("a.pt", tar)), "a tar file"));
  EXPECT_TRUE(has(open_error(dir.write("a.pt", "GGUF\x03")), "GGUF"));
  EXPECT_TRUE(has(open_error(dir.write("a.pt", "\x1f\x8b\x08")), "gzip"));
  EXPECT_TRUE(
      has(open_error(dir.write("a.pt", "version https://git-lfs.github.com/spec/v1\n")), "git lfs pull"));
  EXPECT_TRUE(
      has(open_error(dir.write("a.pt", "hello world, long enough")), "neither safetensors nor a PyTorch"));
  EXPECT_TRUE(has(open_error(dir.write("a.safetensors", le<uint64_t>(99) + "x")), "longer than the file"));
}

TEST(OpenCheckpoint, BareFileUsesAConfigBesideItOnlyIfThereIsOne) {
  const TempDir dir;
  const std::string path = dir.write("m.safetensors", bytes_file({"a"}));
  EXPECT_TRUE(open_checkpoint(path)->config().is_null());
  dir.write("config.json", R"({"d_model":3})");
  const auto checkpoint = open_checkpoint(path);
  EXPECT_EQ(checkpoint->config()["d_model"], 3);
  EXPECT_EQ(checkpoint->files().size(), 2U);
  EXPECT_EQ(checkpoint->path(), path);
  EXPECT_EQ(std::filesystem::path(checkpoint->directory()), std::filesystem::path(path).parent_path());
  CheckpointOptions options;
  options.config_path = dir.write("other.json", R"({"d_model":4})");
  EXPECT_EQ(open_checkpoint(path, options)->config()["d_model"], 4);
}

TEST(OpenCheckpoint, ConfigThatIsNoObjectIsAnError) {
  const TempDir dir;
  dir.write("config.json", "[1]");
  EXPECT_TRUE(has(open_error(dir.write("m.safetensors", bytes_file({"a"}))), "config.json"));
}

TEST(OpenCheckpoint, WrapperPrefixesAreStrippedAndNoted) {
  const TempDir dir;
  const auto checkpoint =
      open_checkpoint(dir.write("m.safetensors", bytes_file({"module._orig_mod.backbone.embeddings.weight",
                                                             "module._orig_mod.backbone.layers.0.x",
                                                             "module._orig_mod.lm_head.weight"})));
  EXPECT_NE(checkpoint->find("backbone.layers.0.x"), nullptr);
  EXPECT_NE(checkpoint->find("lm_head.weight"), nullptr);
  ASSERT_EQ(checkpoint->notes().size(), 2U);
  EXPECT_TRUE(has(checkpoint->notes()[0], "\"_orig_mod.\" is left out of the names of 3 of 3 tensors"));
  EXPECT_TRUE(
      has(checkpoint->notes()[1], "\"module.backbone.layers...\", are read as \"backbone.layers...\""));
}

TEST(OpenCheckpoint, ReadOfAnUnknownNameSuggestsTheNearest) {
  const TempDir dir;
  const auto checkpoint = open_checkpoint(dir.write("m.safetensors", bytes_file({"backbone.norm"})));
  EXPECT_TRUE(has(error_of([&] { checkpoint->read("backbone.nrom"); }), "did you mean \"backbone.norm\""));
  EXPECT_EQ(checkpoint->find("backbone.nrom"), nullptr);
}

TEST(OpenCheckpoint, BytesStayValidAfterDropAndAfterTheCheckpoint) {
  const TempDir dir;
  auto checkpoint = open_checkpoint(dir.write("m.safetensors", bytes_file({"a", "b"}, "xy")));
  const TensorBytes b = checkpoint->read("b");
  checkpoint->drop("b");
  checkpoint.reset();
  EXPECT_EQ(static_cast<char>(b.bytes[0]), 'y');
}

TEST(OpenCheckpoint, MisalignedTensorIsCopiedToAnAlignedPlace) {
  const TempDir dir;
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})";
  const auto checkpoint = open_checkpoint(dir.write("m.safetensors", safetensors(header, "a01234567")));
  const TensorBytes b = checkpoint->read("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.bytes.data()) % 8, 0U);
  EXPECT_EQ(content(*checkpoint, "b"), "01234567");
}

TEST(OpenCheckpoint, FlippedBitInATensorIsAnErrorWhenItIsRead) {
  const TempDir dir;
  std::string bytes = torch_file("w");
  const size_t at = bytes.find("PADDEDt");  // the tensor's one byte, after its header
  ASSERT_NE(at, std::string::npos);
  bytes[at + 6] = 'u';
  for (const bool use_mmap : {true, false}) {
    CheckpointOptions options;
    options.use_mmap = use_mmap;
    const auto checkpoint = open_checkpoint(dir.write("m.pt", bytes), options);
    const std::string message = error_of([&] { checkpoint->read("w"); });
    EXPECT_TRUE(has(message, "tensor \"w\": the checksum of m/data/0")) << message;
  }
}

TEST(OpenCheckpoint, StateKeyForSafetensorsIsAUsageError) {
  const TempDir dir;
  CheckpointOptions options;
  options.state_key = "model";
  EXPECT_TRUE(has(open_error(dir.write("m.safetensors", bytes_file({"a"})), options), "--state-key"));
}

// A sharded checkpoint with a given index over shard 1 {a, b} and shard 2 {c}.
std::string shards_error(const std::string& index) {
  const TempDir dir;
  dir.write("1.safetensors", bytes_file({"a", "b"}));
  dir.write("2.safetensors", bytes_file({"c"}));
  return open_error(dir.write("model.safetensors.index.json", index));
}

TEST(Shards, TensorsOfAllShardsAreReadInBothForms) {
  const TempDir dir;
  dir.write("1.safetensors", bytes_file({"a", "b"}));
  dir.write("2.bin", torch_file("c"));
  const auto checkpoint = open_checkpoint(
      dir.write("i.json", index_file({{"a", "1.safetensors"}, {"c", "2.bin"}, {"b", "1.safetensors"}})));
  EXPECT_EQ(checkpoint->tensors().size(), 3U);
  EXPECT_EQ(content(*checkpoint, "b"), "b");
  EXPECT_EQ(content(*checkpoint, "c"), "t");
  EXPECT_EQ(checkpoint->files().size(), 3U);
}

TEST(Shards, FileNamesThatLeaveTheDirectoryAreErrors) {
  for (const char* name :
       {"../1.safetensors", "/etc/passwd", "x/1.safetensors", "..", ".", "", "a\\\\b", "a\\u0000b"}) {
    const std::string message = shards_error(index_file({{"a", name}}));
    EXPECT_TRUE(has(message, "is not a plain file name")) << message;
  }
}

TEST(Shards, MissingShardIsAnErrorThatNamesIt) {
  const std::string message = shards_error(index_file(
      {{"a", "1.safetensors"}, {"b", "1.safetensors"}, {"c", "2.safetensors"}, {"d", "3.safetensors"}}));
  EXPECT_TRUE(has(message, "3.safetensors: cannot open")) << message;
}

TEST(Shards, TensorThatIsNotWhereTheIndexSaysIsAnError) {
  const std::string swapped =
      index_file({{"a", "1.safetensors"}, {"b", "2.safetensors"}, {"c", "2.safetensors"}});
  EXPECT_TRUE(has(shards_error(swapped), "holds the tensor \"b\", which the index places in 2.safetensors"));
  const std::string extra = index_file(
      {{"a", "1.safetensors"}, {"b", "1.safetensors"}, {"c", "2.safetensors"}, {"d", "2.safetensors"}});
  EXPECT_TRUE(has(shards_error(extra), "\"d\" is not in 2.safetensors"));
}

TEST(Shards, TensorThatTheIndexOmitsIsReadAndNoted) {
  const TempDir dir;
  dir.write("1.safetensors", bytes_file({"a", "b"}));
  const auto checkpoint = open_checkpoint(dir.write("i.json", index_file({{"a", "1.safetensors"}})));
  EXPECT_EQ(content(*checkpoint, "b"), "b");
  ASSERT_EQ(checkpoint->notes().size(), 1U);
  EXPECT_TRUE(has(checkpoint->notes()[0], "1 tensors are stored that the index does not list: b"));
}

TEST(Shards, BufferOrHeadThatIsListedAndNotStoredIsNoted) {
  const TempDir dir;
  dir.write("1.safetensors", bytes_file({"a"}));
  const std::string index = index_file({{"a", "1.safetensors"},
                                        {"lm_head.weight", "1.safetensors"},
                                        {"layers.0.rotary_emb.inv_freq", "1.safetensors"}});
  const auto checkpoint = open_checkpoint(dir.write("i.json", index));
  EXPECT_EQ(checkpoint->tensors().size(), 1U);
  ASSERT_EQ(checkpoint->notes().size(), 1U);
  EXPECT_TRUE(has(checkpoint->notes()[0], "2 tensors that the index lists are not stored"));
}

TEST(Shards, TensorInTwoShardsIsReadOnceIfTheBytesAreEqual) {
  const TempDir dir;
  dir.write("1.safetensors", bytes_file({"a"}, "x"));
  dir.write("2.safetensors", bytes_file({"a", "b"}, "xy"));
  const std::string index = dir.write("i.json", index_file({{"a", "1.safetensors"}, {"b", "2.safetensors"}}));
  for (const bool use_mmap : {true, false}) {
    CheckpointOptions options;
    options.use_mmap = use_mmap;
    const auto checkpoint = open_checkpoint(index, options);
    EXPECT_EQ(checkpoint->tensors().size(), 2U);
    EXPECT_EQ(content(*checkpoint, "a"), "x");
    EXPECT_EQ(content(*checkpoint, "b"), "y");
    EXPECT_TRUE(has(checkpoint->notes()[0], "is a copy of the one in " + dir.path("1.safetensors")));
  }
  dir.write("2.safetensors", bytes_file({"a", "b"}, "zy"));
  EXPECT_TRUE(has(open_error(index), "2.safetensors: tensor \"a\": the tensor is also in"));
  EXPECT_TRUE(has(open_error(index), "with other values"));
}

TEST(Shards, TensorNamedTwiceInTheIndexIsAnError) {
  EXPECT_TRUE(
      has(shards_error(index_file({{"a", "1.safetensors"}, {"a", "2.safetensors"}})), "\"a\" occurs twice"));
}

TEST(Shards, MalformedIndexIsAnError) {
  for (const char* index : {"{}", R"({"weight_map":{}})", R"({"weight_map":[]})", R"({"weight_map":3})",
                            R"({"weight_map":{"a":3}})", R"({"weight_map":{"a":{}}})",
                            R"({"weight_map":{"a":"1"},"weight_map":{"b":"1"}})", R"({"weight_map":)"}) {
    EXPECT_NE(shards_error(index), "") << index;
  }
}

TEST(Shards, IndexThatNamesItselfIsAnError) {
  const TempDir dir;
  EXPECT_TRUE(
      has(open_error(dir.write("i.json", index_file({{"a", "i.json"}}))), "an index of shards where"));
}

}  // namespace
}  // namespace ptq
