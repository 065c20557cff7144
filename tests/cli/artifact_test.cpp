// Artifacts that were damaged after they were written: each is an error that names the place.
#include <bit>
#include <limits>
#include <span>

#include "cli/cli.h"
#include "cli/tiny_mamba.h"
#include "ptq/base/hash.h"

namespace ptq {
namespace {

using testing::TinyMamba;

class Artifact : public Cli {
 protected:
  void SetUp() override {
    directory_.write("m.safetensors", TinyMamba().bytes());
    directory_.write("ids.bin", std::string("\1\0\2\0\3\0\4\0", 8) + std::string(56, '\0'));
    run_well({"m.safetensors", "--method", "quamba", "--samples", "2", "--seq-len", "8", "-o", "q"});
    const std::string file = weights("q");
    uint64_t length = 0;
    for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<uint8_t>(file[i])} << (8 * i);
    header_ = parse_json(file.substr(8, length), "header");
    data_ = file.substr(8 + length);
    config_ = read_json_file(directory_ / "q/config.json");
  }
  Json& quantization() { return config_["quantization_config"]; }
  // Makes the hash that the configuration states of itself that of what it holds.
  void sign() {
    nlohmann::json rest = nlohmann::json::parse(quantization().dump());
    rest.erase("sha256");
    const std::string text = rest.dump();
    quantization()["sha256"] = sha256_hex(std::as_bytes(std::span(text)));
  }
  void set_float(const std::string& tensor, float value) {
    const size_t begin = header_[tensor]["data_offsets"][0].get<size_t>();
    data_.replace(begin, 4, testing::le(std::bit_cast<uint32_t>(value)));
  }
  // Writes the changed artifact; evaluating it must fail with `words`.
  void expect_damaged(const Words& words) {
    sign();
    directory_.write("q/model.safetensors", testing::safetensors(header_.dump(), data_));
    directory_.write("q/config.json", config_.dump());
    expect_error({"eval", "q", "--text", "ids.bin", "--token-dtype", "u16", "--seq-len", "8"}, 1, words);
  }
  Json header_, config_;
  std::string data_;
  const std::string in_proj_ = "backbone.layers.0.mixer.in_proj.weight";
  const std::string site_ = "backbone.layers.0.mixer.sites.ssm.x";
};

TEST_F(Artifact, UndamagedOneIsRead) {
  directory_.write("q/model.safetensors", testing::safetensors(header_.dump(), data_));
  EXPECT_EQ(run_json({"eval", "q", "--text", "ids.bin", "--token-dtype", "u16"})["tokens"], 31);
}

TEST_F(Artifact, MissingScaleIsNamed) {
  header_["renamed"] = header_[in_proj_ + "_scale"];
  header_.erase(in_proj_ + "_scale");
  expect_damaged({in_proj_ + "_scale"});
}

TEST_F(Artifact, ScalesMustBePositiveAndFinite) {
  for (const float bad : {-1.0F, 0.0F, std::numeric_limits<float>::quiet_NaN()}) {
    set_float(in_proj_ + "_scale", bad);
    expect_damaged({in_proj_ + "_scale", "1 of 16 scales are not positive and finite"});
  }
}

TEST_F(Artifact, StaticActivationScaleIsCheckedToo) {
  set_float(site_ + ".scale", -1.0F);
  expect_damaged({site_ + ".scale", "not positive"});
}

TEST_F(Artifact, WrongDtypeOrShapeIsNamed) {
  header_[in_proj_]["dtype"] = "U8";
  expect_damaged({in_proj_, "U8", "I8"});
  header_[in_proj_]["dtype"] = "I8";
  header_[in_proj_]["shape"] = {4, 16};
  expect_damaged({in_proj_, "[4, 16]", "[16, 4]"});
}

TEST_F(Artifact, UnknownSchemeOrVersionIsRefused) {
  quantization()["weights"][in_proj_]["bits"] = 5;
  expect_damaged({in_proj_, "scheme"});
  quantization()["weights"][in_proj_]["bits"] = 8;
  quantization()["format_version"] = 99;
  expect_damaged({"format version is 99", "reads 1 to 4"});
}

TEST_F(Artifact, RotationOfAnotherSizeIsRefused) {
  Json& site = quantization()["sites"]["backbone.layers.0.mixer.sites.ssm.output"];
  ASSERT_EQ(site["transform"].size(), 1U);
  site["transform"][0]["size"] = 16;
  site["transform"][0]["block"] = 16;
  expect_damaged({"ssm.output", "hadamard(16)", "8 channels"});
  site["transform"][0]["type"] = "shear";
  expect_damaged({"ssm.output", "shear", "not one this program reads"});
  site["transform"] = 5;
  expect_damaged({"ssm.output", "not a list"});
}

TEST_F(Artifact, VersionOneWithASingleHadamardIsRead) {
  Json& site = quantization()["sites"]["backbone.layers.0.mixer.sites.ssm.output"];
  site["hadamard"] = site["transform"][0];
  site["hadamard"].erase("type");
  site.erase("transform");
  quantization()["format_version"] = 1;
  quantization().erase("sha256");
  quantization().erase("corrections");
  Json sites = Json::object();  // those that do something
  for (auto& [key, entry] : quantization()["sites"].items()) {
    if (entry["quantizer"] == "none" && !entry.contains("hadamard")) continue;
    entry.erase("smooth");
    entry.erase("transform");
    sites[key] = entry;
  }
  quantization()["sites"] = sites;
  const Words eval = {"eval", "q", "--text", "ids.bin", "--token-dtype", "u16", "--seq-len", "8"};
  const Json before = run_json(eval);
  directory_.write("q/config.json", config_.dump());
  EXPECT_EQ(run_json(eval), before);
}

TEST_F(Artifact, MissingWeightIsNamed) {
  header_["renamed"] = header_[in_proj_];
  header_.erase(in_proj_);
  expect_damaged({in_proj_, "missing"});
}

}  // namespace
}  // namespace ptq
