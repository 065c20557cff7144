// Outputs that were damaged after they were written. Most have SHA256SUMS made again, so that the check under
// test is the one that finds the damage.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "../base/expect_error.h"
#include "ptq/base/hash.h"
#include "ptq/verify/verify.h"
#include "samples.h"

namespace ptq {
namespace {

// One output, made once for all tests of a fixture, and copied for each.
class Damaged : public ::testing::Test {
 protected:
  static void make(const SampleRun& sample) {
    whole_ = std::make_unique<TempDirectory>();
    sample_ = sample;
    sample.run(*whole_ / "out");
  }
  static void TearDownTestSuite() { whole_.reset(); }
  void SetUp() override { std::filesystem::copy(*whole_ / "out", directory_ / "out"); }

  std::string read(const std::string& file) const { return directory_.read("out/" + file); }
  void write(const std::string& file, const std::string& text) const {
    directory_.write("out/" + file, text);
  }
  Json json(const std::string& file) const { return read_json_file(directory_ / ("out/" + file)); }
  void edit_json(const std::string& file, const std::function<void(Json&)>& change) const {
    Json document = json(file);
    change(document);
    write(file, document.dump(1) + "\n");
    make_sums();
  }

  // Changes the bytes of a stored tensor.
  void edit_tensor(const std::string& name, const std::function<void(std::string& bytes)>& change) const {
    std::string file = read("model.safetensors");
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof(length));
    const Json header = parse_json(file.substr(8, length), "header");
    const auto begin = 8 + length + header.at(name).at("data_offsets")[0].get<uint64_t>();
    const auto end = 8 + length + header.at(name).at("data_offsets")[1].get<uint64_t>();
    std::string bytes = file.substr(begin, end - begin);
    change(bytes);
    write("model.safetensors", file.replace(begin, end - begin, bytes));
    make_sums();
  }
  void edit_header(const std::function<void(Json& header, std::string& data)>& change) const {
    const std::string file = read("model.safetensors");
    uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof(length));
    Json header = parse_json(file.substr(8, length), "header");
    std::string data = file.substr(8 + length);
    change(header, data);
    const std::string text = header.dump();
    length = text.size();
    write("model.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) + text + data);
    edit_json("report.json", [&](Json& report) {
      const size_t bytes = 8 + text.size() + data.size();
      report["output"]["files"]["model.safetensors"] = bytes;
      report["output"]["bytes"] = bytes;
      report["output"]["bits_per_weight"] =
          8.0 * static_cast<double>(bytes) / report["source"]["parameters"].get<double>();
    });
  }
  void make_sums() const {
    std::string sums;
    for (const std::string& name : TempDirectoryList()) {
      if (name != "SHA256SUMS") sums += sha256_file(directory_ / ("out/" + name)) + "  " + name + "\n";
    }
    write("SHA256SUMS", sums);
  }
  std::vector<std::string> TempDirectoryList() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "out"))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  std::vector<Finding> verify(bool against_source = false) const {
    return verify_artifact(directory_ / "out", against_source ? sample_.model_path() : "", {}).findings;
  }
  // One finding at least has all of the words.
  void expect_found(const std::vector<std::string>& words, bool against_source = false) const {
    const std::vector<Finding> findings = verify(against_source);
    std::string all;
    bool found = false;
    for (const Finding& finding : findings) {
      const std::string text = finding.where + ": " + finding.what;
      all += text + "\n";
      found = found || std::all_of(words.begin(), words.end(), [&](const std::string& word) {
                return text.find(word) != std::string::npos;
              });
    }
    EXPECT_TRUE(found) << words.front() << " is not in:\n" << all;
  }

  static std::unique_ptr<TempDirectory> whole_;
  static SampleRun sample_;
  const TempDirectory directory_;
};
std::unique_ptr<TempDirectory> Damaged::whole_;
SampleRun Damaged::sample_;

// Rotations, permutations, signs, smoothing; packed codes with zero points in groups; float layers.
class DamagedLlama : public Damaged {
 protected:
  static void SetUpTestSuite() {
    make({"llama-1m",
          "transformer",
          "duquant",
          "w4a4",
          {"duquant.rotation=greedy", "duquant.steps=4", "duquant.signs=random", "duquant.rounding=rtn",
           "duquant.clip=1", "duquant.group=32"},
          {"*.1.mlp.down_proj"}});
  }
  const std::string q_ = "model.layers.0.self_attn.q_proj.weight";
  const std::string site_ = "model.layers.0.sites.qkv.input";
};

// Static scales, 8 bits a tensor.
class DamagedMamba : public Damaged {
 protected:
  static void SetUpTestSuite() { make({"mamba-1m/model.pt", "ssm", "quamba", "w8a8"}); }
  const std::string in_proj_ = "backbone.layers.0.mixer.in_proj.weight";
};

// 6 bits in 8: codes that the scheme does not have.
class DamagedGptq : public Damaged {
 protected:
  static void SetUpTestSuite() { make({"llama-1m", "transformer", "gptq", "w6a6"}); }
  const std::string q_ = "model.layers.0.self_attn.q_proj.weight";
};

TEST_F(DamagedLlama, UndamagedOneHasNoDifference) {
  EXPECT_TRUE(verify(true).empty());
  make_sums();
  EXPECT_TRUE(verify(true).empty());
}

TEST_F(DamagedLlama, OneFlippedBitInAnyFileIsFound) {
  for (const std::string& file : TempDirectoryList()) {
    const std::string whole = read(file);
    for (size_t i = 0; i < 16; ++i) {
      const size_t place = i * (whole.size() - 1) / 15;
      std::string flipped = whole;
      flipped[place] = static_cast<char>(flipped[place] ^ (1 << (i * 5 % 8)));
      write(file, flipped);
      EXPECT_FALSE(verify().empty()) << file << ", bit " << i * 5 % 8 << " of byte " << place;
    }
    write(file, whole);
  }
  EXPECT_TRUE(verify().empty());
}

TEST_F(DamagedMamba, EveryBitOfTheChecksumsCounts) {
  const std::string whole = read("SHA256SUMS");
  for (size_t place = 0; place < 140; ++place) {
    std::string flipped = whole;
    flipped[place] = static_cast<char>(flipped[place] ^ (1 << (place % 8)));
    write("SHA256SUMS", flipped);
    EXPECT_FALSE(verify().empty()) << "byte " << place;
  }
}

TEST_F(DamagedLlama, FilesThatAreMissingOrTooManyAreNamed) {
  std::filesystem::remove(directory_ / "out/tokenizer.json");
  write("notes.txt", "dear");
  expect_found({"tokenizer.json", "missing"});
  expect_found({"notes.txt", "not listed in SHA256SUMS"});
  make_sums();
  expect_found({"tokenizer.json", "output.files", "missing"});
  expect_found({"notes.txt", "not among the report's output.files"});
  std::filesystem::remove(directory_ / "out/SHA256SUMS");
  expect_found({"SHA256SUMS", "is missing"});
  std::filesystem::remove(directory_ / "out/model.safetensors");
  expect_found({"model.safetensors", "is missing"});
}

TEST_F(DamagedLlama, LinksAndFoldersAreNamedAndNotFollowed) {
  std::filesystem::rename(directory_ / "out/model.safetensors", directory_ / "elsewhere");
  std::filesystem::create_symlink(directory_ / "elsewhere", directory_ / "out/model.safetensors");
  std::filesystem::create_directory(directory_ / "out/folder");
  expect_found({"model.safetensors", "symbolic link"});
  expect_found({"folder", "not a file"});
}

TEST_F(DamagedLlama, ChecksumsInAnotherOrderAreFound) {
  const std::string sums = read("SHA256SUMS");
  const size_t line = sums.find('\n') + 1;
  write("SHA256SUMS", sums.substr(line) + sums.substr(0, line));
  expect_found({"SHA256SUMS", "in order"});
}

TEST_F(DamagedLlama, GapsAndOverlapsOfTensorsAreFound) {
  edit_header([](Json&, std::string& data) { data += std::string(8, '\0'); });
  expect_found({"the tensors end at byte"});
}

TEST_F(DamagedLlama, TensorsTooFewOrTooManyAreNamed) {
  edit_header([&](Json& header, std::string&) {
    header[q_ + "_surplus"] = header[q_ + "_scale"];
    header.erase(q_ + "_scale");
  });
  expect_found({q_ + "_scale", "the tensor is missing"});
  expect_found({q_ + "_surplus", "neither the architecture nor quantization_config"});
}

TEST_F(DamagedLlama, WrongDtypeIsNamed) {
  edit_header([&](Json& header, std::string&) { header[q_ + "_packed"]["dtype"] = "I8"; });
  expect_found({q_ + "_packed", "I8", "U8"});
}

TEST_F(DamagedLlama, ScalesMustBePositiveAndFinite) {
  edit_tensor(q_ + "_scale",
              [](std::string& bytes) { bytes.replace(0, 4, std::string("\x00\x80\x00\x7c", 4)); });
  expect_found({q_ + "_scale", "2 of", "not positive and finite"});  // -0 and infinity
}

TEST_F(DamagedLlama, ZeroPointsMustBeCodes) {
  edit_tensor(q_ + "_zero", [](std::string& bytes) { bytes[3] = 16; });
  expect_found({q_ + "_zero", "1 of", "not among the 16 codes"});
}

TEST_F(DamagedLlama, PermutationsMustHaveEachChannelOnce) {
  edit_tensor(site_ + ".permutation", [](std::string& bytes) { bytes.replace(0, 4, bytes.substr(4, 4)); });
  expect_found({site_ + ".permutation", "no permutation"});
}

TEST_F(DamagedLlama, RotationsMustBeOrthogonal) {
  edit_tensor(site_ + ".rotation",
              [](std::string& bytes) { bytes.replace(0, 4, std::string("\x00\x00\x00\x40", 4)); });
  expect_found({site_ + ".rotation", "not orthogonal"});
}

TEST_F(DamagedLlama, SignsMustBeSigns) {
  edit_tensor(site_ + ".signs", [](std::string& bytes) { bytes[5] = 0; });
  expect_found({site_ + ".signs", "other than +1 and -1"});
}

TEST_F(DamagedLlama, ScalesOfSmoothingMustBePositive) {
  edit_tensor(site_ + ".smooth", [](std::string& bytes) { bytes.replace(0, 4, 4, '\0'); });
  expect_found({site_ + ".smooth", "positive and finite"});
}

TEST_F(DamagedMamba, CountOfStaticScalesMustBeThatOfTheChannels) {
  edit_json("config.json", [](Json& config) {
    for (auto& [key, entry] : config["quantization_config"]["sites"].items()) {
      if (key.ends_with("ssm.B")) entry["channels"] = 7;
      if (key.ends_with("ssm.output")) entry["channels"] = 256;
    }
    nlohmann::json rest = nlohmann::json::parse(config["quantization_config"].dump());
    rest.erase("sha256");
    const std::string text = rest.dump();
    config["quantization_config"]["sha256"] = sha256_hex(std::as_bytes(std::span(text)));
  });
  expect_found({"backbone.layers.0.mixer.sites.ssm.B", "7 channels of 16"});
  expect_found({"backbone.layers.0.mixer.sites.ssm.output", "256 channels of 0"});
  const OpenModel open = open_model(directory_ / "out", {}, at::kCPU);
  EXPECT_ERROR(open.model->load_block(0), ExitCode::kFailed, "is not one this program reads");
}

TEST_F(DamagedMamba, StaticScalesMustBePositive) {
  const std::string scale = "backbone.layers.0.mixer.sites.ssm.x.scale";
  edit_tensor(scale, [](std::string& bytes) { bytes.replace(0, 4, 4, '\0'); });
  expect_found({scale, "not one positive and finite"});
  expect_found({"report.json: site backbone.layers.0.mixer.sites.ssm.x", "scale"});
}

TEST_F(DamagedGptq, CodesMustBeThoseOfTheScheme) {
  edit_tensor(q_, [](std::string& bytes) { bytes[7] = 32; });
  expect_found({q_, "1 of", "codes are outside -32 to 31"});
}

TEST_F(DamagedLlama, FloatsMustBeFinite) {
  edit_tensor("model.norm.weight",
              [](std::string& bytes) { bytes.replace(0, 2, std::string("\x00\x7e", 2)); });
  expect_found({"model.norm.weight", "1 of", "NaN or infinite"});
}

TEST_F(DamagedLlama, ConfigurationIsCheckedAgainstTensorsAndArchitecture) {
  const auto schemes = [](Json& config) -> Json& { return config["quantization_config"]["weights"]; };
  edit_json("config.json", [&](Json& config) { schemes(config)[q_]["group"] = 64; });
  expect_found({q_ + "_scale", "where the scheme has F16"});
  expect_found({"report.json: layer", "group is 32; quantization_config says 64"}, false);
  edit_json("config.json", [&](Json& config) {
    schemes(config)[q_]["group"] = 32;
    config["quantization_config"]["sites"]["model.layers.9.sites.x"] = {{"quantizer", "none"}};
  });
  expect_found({"model.layers.9.sites.x", "no such site"});
  edit_json("config.json", [&](Json& config) { schemes(config)[q_]["bits"] = 5; });
  expect_found({"config.json", "bits"});
  edit_json("config.json", [&](Json& config) { config["num_attention_heads"] = 5; });
  EXPECT_FALSE(verify().empty());
  write("config.json", "{");
  EXPECT_FALSE(verify().empty());
}

TEST_F(DamagedLlama, ReportIsCheckedAgainstSchemaFilesAndConfiguration) {
  edit_json("report.json", [](Json& report) { report["output"]["bytes"] = 5; });
  expect_found({"report.json", "output.bytes is 5"});
  edit_json("report.json", [](Json& report) { report["recipe"]["bits"] = "w2a2"; });
  expect_found({"report.json", "recipe is not that of quantization_config"});
  edit_json("report.json", [](Json& report) { report["sites"][0]["bits"] = 8; });
  expect_found({"report.json: site model.layers.0.sites.qkv.input", "bits are 8"});
  edit_json("report.json", [](Json& report) { report["schema_version"] = 77; });
  expect_found({"report.json", "schema_version", "77"});
}

TEST_F(DamagedLlama, ValueFurtherThanHalfAStepIsFound) {
  edit_tensor(q_ + "_packed", [](std::string& bytes) { bytes[100] = static_cast<char>(bytes[100] ^ 3); });
  EXPECT_TRUE(verify().empty());  // a code like any other
  expect_found({q_, "1 of", "more than half a step from the source", "row 1"}, true);
}

TEST_F(DamagedLlama, ChangedFloatIsFound) {
  edit_tensor("model.embed_tokens.weight",
              [](std::string& bytes) { bytes[11] = static_cast<char>(bytes[11] ^ 1); });
  expect_found({"model.embed_tokens.weight", "1 of", "are not the source's"}, true);
  edit_tensor("model.layers.1.mlp.down_proj.weight",
              [](std::string& bytes) { bytes[11] = static_cast<char>(bytes[11] ^ 1); });
  expect_found({"model.layers.1.mlp.down_proj.weight", "1 of", "after its rewrites"}, true);
}

TEST_F(DamagedGptq, ErrorThatIsNotTheReportsIsFound) {
  edit_tensor(q_, [](std::string& bytes) {
    for (size_t i = 0; i < bytes.size(); i += 16) bytes[i] = static_cast<char>(bytes[i] ^ 1);
  });
  expect_found({q_, "dB (SQNR) from the source; the report says"}, true);
}

TEST_F(DamagedGptq, RewritesThatAreNotTheStoredOnesAreFound) {
  edit_json("report.json", [](Json& report) {
    report["layers"][0]["weight_sqnr_db"] = report["layers"][0]["weight_sqnr_db"].get<double>() + 0.02;
  });
  expect_found({q_, "dB (SQNR) from the source"}, true);
}

TEST_F(DamagedLlama, SourceOfAnotherModelIsFound) {
  const std::string mamba = std::string(PTQ_TEST_DIR "/../data/mamba-1m/model.pt");
  const std::vector<Finding> findings = verify_artifact(directory_ / "out", mamba, {}).findings;
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_NE(findings[0].what.find("is not among the files that the report names"), std::string::npos);
  EXPECT_NE(findings[1].what.find("is a mamba"), std::string::npos);
}

TEST_F(DamagedLlama, SourceOfOtherWeightsIsFound) {
  const SampleRun llama = sample_;
  std::filesystem::copy(llama.model_path(), directory_ / "other");
  std::string file = directory_.read("other/model.safetensors");
  file[file.size() - 999] = static_cast<char>(file[file.size() - 999] ^ 0x20);  // an exponent
  directory_.write("other/model.safetensors", file);
  const std::vector<Finding> findings =
      verify_artifact(directory_ / "out", directory_ / "other", {}).findings;
  ASSERT_GE(findings.size(), 2U);
  EXPECT_NE(findings[0].what.find("the report says"), std::string::npos);
}

TEST_F(DamagedLlama, DirectoryThatIsNoOutputIsAnError) {
  EXPECT_ERROR(verify_artifact(sample_.model_path(), "", {}), ExitCode::kFailed, "no output of this program");
  EXPECT_ERROR(verify_artifact(directory_ / "nothing", "", {}), ExitCode::kFailed, "not a directory");
  EXPECT_ERROR(verify_artifact(directory_ / "out", directory_ / "out", {}), ExitCode::kFailed,
               "already quantized");
  EXPECT_ERROR(verify_artifact(directory_ / "out", directory_ / "nothing", {}), ExitCode::kFailed, "nothing");
}

}  // namespace
}  // namespace ptq
