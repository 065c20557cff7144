// Damaged, hostile and unfit files: one message, exit code 1, nothing written, little memory.
#include <limits>

#include "cli/cli.h"
#include "cli/tiny_mamba.h"

namespace ptq {
namespace {

using testing::TinyMamba;
namespace pickle = testing::pickle;

class Hostile : public Cli {
 protected:
  std::string bytes_of(const std::string& path) const {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
};

TEST_F(Hostile, DamagedArchivesAreNamed) {
  const std::string model = bytes_of(model_);
  expect_refused(directory_.write("a.pt", model.substr(0, model.size() / 2)),
                 {"a.pt", "zip", "damaged or cut"});
  std::string flipped = model;
  flipped[flipped.size() * 2 / 3] ^= 0x10;
  expect_refused(directory_.write("b.pt", flipped), {"b.pt", "checksum", "damaged"});
  expect_refused(directory_.write("c.pt", ""), {"c.pt", "empty"});
  expect_refused(directory_.write("d.pt", "hello, I am no model"), {"d.pt", "neither safetensors nor"});
  expect_refused("absent.pt", {"absent.pt", "No such file"});
}

TEST_F(Hostile, CompressedArchiveIsNotInflated) {
  // Entries that claim to hold far more than the file does: a zip bomb needs compression, or a lie.
  const std::string body = pickle::dict({{"w", pickle::number(1)}});
  expect_refused(
      directory_.write("deflated.pt",
                       testing::zip({{.name = "m/data.pkl", .data = pickle::program(body), .method = 8}})),
      {"deflated.pt"});
  expect_refused(
      directory_.write(
          "liar.pt",
          testing::zip({{.name = "m/data.pkl", .data = pickle::program(body), .extra_bytes = 0x7fffffff}})),
      {"liar.pt"});
  std::string bomb = pickle::text("x") + "q" + std::string(1, '\0');
  for (int i = 0; i < 60; ++i) bomb += "h" + std::string(1, '\0') + "\x86";  // pairs of pairs of pairs
  expect_refused(directory_.write("nested.pt", testing::torch_archive(bomb, {})), {"nested.pt"});
}

TEST_F(Hostile, PathsInAnArchiveAreNames) {
  const std::string tensor =
      pickle::tensor(pickle::storage("FloatStorage", "../../etc/passwd", 4), 0, {4}, {1});
  expect_refused(directory_.write("a.pt", testing::torch_archive(pickle::dict({{"w", tensor}}), {})),
                 {"a.pt", "passwd"});
}

TEST_F(Hostile, PickleThatRunsCodeDoesNot) {
  const std::string touch = "touch " + directory_ / "hacked";
  const std::string bad = pickle::call(pickle::global("os", "system"), pickle::tuple({pickle::text(touch)}));
  expect_refused(directory_.write("a.pt", testing::torch_archive(pickle::dict({{"w", bad}}), {})), {"a.pt"});
  expect_refused(directory_.write("b.pt", testing::torch_legacy(bad, {}, "")), {"b.pt"});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "hacked"));
}

TEST_F(Hostile, SafetensorsEntriesMustTileTheData) {
  const auto refused = [&](const std::string& header, const std::string& words) {
    const std::string file =
        directory_.write("a.safetensors", testing::safetensors(header, std::string(12, 0)));
    expect_refused(file, {"a.safetensors", words});
  };
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  refused("{" + a + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", "byte 4");
  refused(R"({"a":{"dtype":"F32","shape":[1099511627776,1048576],"data_offsets":[0,8]}})", "take");
  refused("{" + a + "," + a + "}", "twice");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,800]}})", "");
  refused(R"({"a":{"dtype":3,"shape":"x","data_offsets":{}}})", "");
  refused("[]", "");
  const std::string file = directory_.write("huge.safetensors", testing::le(uint64_t{1} << 60) + "{}");
  expect_refused(file, {"huge.safetensors", "1152921504606846976"});
}

TEST_F(Hostile, IndexMustNameFilesBesideIt) {
  const auto refused = [&](const std::string& index, const Words& words) {
    directory_.write("d/model.safetensors.index.json", index);
    expect_refused("d", words);
  };
  refused(R"({"weight_map": {"a": "../../model.pt"}})", {"../../model.pt", "plain file name"});
  refused(R"({"weight_map": {"a": "/etc/passwd"}})", {"/etc/passwd", "plain file name"});
  refused(R"({"weight_map": {"a": 5}})", {"weight_map"});
  refused(R"({"weight_map": 5})", {"weight_map"});
  refused(R"({"weight_map": {"a": "absent.safetensors"}})", {"absent.safetensors"});
  refused("[", {"index.json"});
}

TEST_F(Hostile, NanOrInfinityInAWeightNamesTheTensor) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const char* name : {"backbone.layers.0.mixer.out_proj.weight", "backbone.embeddings.weight"}) {
      TinyMamba model;
      model.values[name][3] = bad;
      const std::string file = directory_.write("m.safetensors", model.bytes());
      expect_refused(file, {name, "1 of", "NaN or infinite", "quantize inspect"});
      EXPECT_NE(run_well({"inspect", file}).out.find("1 not finite"), std::string::npos);
    }
  }
}

TEST_F(Hostile, TinyModelIsFine) {
  const std::string file = directory_.write("m.safetensors", TinyMamba().bytes());
  run_well({file, "--method", "quamba", "--samples", "4", "--seq-len", "8", "-o", "q"});
}

TEST_F(Hostile, MissingOrMisshapenTensorIsNamed) {
  TinyMamba model;
  model.values.erase("backbone.layers.0.mixer.D");
  expect_refused(directory_.write("m.safetensors", model.bytes()), {"backbone.layers.0.mixer.D"});
  TinyMamba other;
  other.shapes["backbone.layers.0.mixer.in_proj.weight"] = {TinyMamba::kHidden, 2 * TinyMamba::kInner};
  expect_refused(directory_.write("m.safetensors", other.bytes()), {"in_proj.weight", "[4, 16]", "[16, 4]"});
}

TEST_F(Hostile, UnknownArchitectureIsNamed) {
  const std::string header =
      R"({"model.embed_tokens.weight":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})";
  directory_.write("gemma/model.safetensors", testing::safetensors(header, std::string(12, 0)));
  directory_.write("gemma/config.json", R"({"architectures": ["GemmaForCausalLM"], "model_type": "gemma"})");
  expect_refused("gemma",
                 {"GemmaForCausalLM", "model.embed_tokens.weight",
                  "quamba is for selective state-space models (Mamba)", "supported architectures: mamba"});
  EXPECT_NE(run_well({"inspect", "gemma"}).out.find("GemmaForCausalLM"), std::string::npos);
}

TEST_F(Hostile, MethodForAnotherFamilyIsRefused) {
  expect_refused(PTQ_TEST_DATA "/llama-1m",
                 {"LlamaForCausalLM", "quamba is for selective state-space models (Mamba)", "quantize list"});
}

TEST_F(Hostile, VocabularyAndTokenizerMustAgree) {
  const std::string file = directory_.write("m.safetensors", TinyMamba().bytes());
  expect_error({file, "--method", "quamba", "--tokenizer", tokenizer_, "-o", "q"}, 1,
               {"tokenizer.json", "2048", "16", "--tokenizer"});
  expect_error({"eval", file, "--tokenizer", tokenizer_, "--text", eval_}, 1, {"2048", "16"});
  expect_error({"generate", file, "--tokenizer", tokenizer_, "--prompt", "a"}, 1, {"2048", "16"});
  const std::string ids = directory_.write("ids.bin", testing::le<uint16_t>(16));
  expect_error({"eval", file, "--text", ids, "--token-dtype", "u16"}, 1, {"token id 16", "16 entries"});
}

TEST_F(Hostile, CalibrationTextMustBeLongEnough) {
  const auto refused = [&](const std::string& text, const Words& words) {
    expect_error({model_, "--method", "quamba", "-o", "q", "--calib", directory_.write("a.txt", text)}, 1,
                 words);
  };
  refused("", {"a.txt", "no tokens"});
  refused("speak", {"a.txt", "one window needs 512", "--seq-len"});
  expect_error({model_, "--method", "quamba", "-o", "q", "--calib", "absent.txt"}, 1, {"absent.txt"});
  expect_error({model_, "--method", "rtn", "-o", "q", "--calib", calib_, "--eval-text", "absent.txt"}, 1,
               {"absent.txt"});
}

TEST_F(Hostile, OutputMustHaveAPlace) {
  expect_error({model_, "--method", "rtn", "-o", "absent/q"}, 1, {"absent/q", "mkdir -p absent"});
}

}  // namespace
}  // namespace ptq
