// quantize verify: output, exit codes and wrong inputs. What it finds is tested in tests/conformance.
#include "cli/cli.h"

namespace ptq {
namespace {

class Verified : public Cli {
 protected:
  void SetUp() override { quantize({"--method", "quamba"}, "q"); }
  void flip(const std::string& file, size_t place) const {
    std::string bytes = directory_.read(file);
    bytes.at(place) = static_cast<char>(bytes.at(place) ^ 4);
    directory_.write(file, bytes);
  }
};

TEST_F(Verified, OutputWithoutDifferenceIsATableAndExitCodeZero) {
  const std::string text = run_well({"verify", "q"}).out;
  EXPECT_NE(text.find("no difference"), std::string::npos);
  EXPECT_EQ(text.find("rounded plainly"), std::string::npos);
  const std::string against = run_well({"verify", "q", "--source", model_}).out;
  EXPECT_NE(against.find("rounded plainly"), std::string::npos);
  EXPECT_NE(against.find("0.5"), std::string::npos);
  const Json json = run_json({"verify", "q", "--source", model_});
  EXPECT_TRUE(json["differences"].empty());
  EXPECT_EQ(json["files"], 5);
  EXPECT_EQ(json["weights_in_codes"], 28);
  EXPECT_EQ(json["against"]["within_half_step"], 28);
  EXPECT_TRUE(run_json({"verify", "q"})["against"].is_null());
}

TEST_F(Verified, EveryDifferenceIsListedAndExitCodeIsFour) {
  flip("q/model.safetensors", 100'000);
  flip("q/tokenizer.json", 50);
  const ProcessResult result = run({"verify", "q"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_NE(result.out.find("model.safetensors: has the SHA-256"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("tokenizer.json: has the SHA-256"), std::string::npos);
  EXPECT_NE(result.err.find("error: q: 2 differences"), std::string::npos) << result.err;
  const ProcessResult json = run({"verify", "q", "--json"});
  EXPECT_EQ(json.exit_code, 4);
  EXPECT_EQ(parse_json(json.out, "stdout")["differences"].size(), 2U);
}

TEST_F(Verified, WrongInputsAreErrors) {
  expect_error({"verify"}, 2, {"DIR"});
  expect_error({"verify", "nothing"}, 1, {"nothing", "not a directory"});
  expect_error({"verify", model_}, 1, {"not a directory"});
  expect_error({"verify", PTQ_TEST_DATA "/llama-1m"}, 1, {"no output of this program"});
  expect_error({"verify", "q", "--source", "nothing.pt"}, 1, {"nothing.pt"});
  expect_error({"verify", "q", "--source", "q"}, 1, {"already quantized"});
  expect_error({"verify", "q", "--sauce", "x"}, 2, {"--sauce", "did you mean \"--source\""});
}

TEST_F(Verified, HostileNumbersInTheConfigurationAreFindings) {
  Json config = read_json_file(directory_ / "q/config.json");
  Json& scheme = config["quantization_config"]["weights"]["backbone.layers.0.mixer.in_proj.weight"];
  for (const Json& shape : {Json({1e12, 1e12}), Json({-1, 5}), Json(7), Json::array()}) {
    scheme["bits"] = 4;
    scheme["shape"] = shape;
    directory_.write("q/config.json", config.dump());
    const ProcessResult result = run({"verify", "q", "--source", model_});
    EXPECT_EQ(result.exit_code, 4) << result.err;
    EXPECT_LT(result.peak_rss_bytes, int64_t{300} << 20);
  }
}

}  // namespace
}  // namespace ptq
