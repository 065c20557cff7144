// Valid JSON with the wrong types everywhere: a message and exit code 1 or 2, never "a bug".
#include "cli/cli.h"
#include "cli/tiny_mamba.h"

namespace ptq {
namespace {

using testing::TinyMamba;

class Configuration : public Cli {
 protected:
  const Json odd_[6] = {nullptr, true, -1, 1e300, "x", Json::array({Json::object()})};

  // Replaces every value below `json`, one at a time, and calls `use` with the document and the place.
  template <typename Use>
  void for_each_mutation(const Json& json, const Use& use) const {
    const Json leaves = json.flatten();
    for (const auto& [pointer, value] : leaves.items()) {
      for (Json::json_pointer place(pointer); !place.empty(); place.pop_back()) {
        const Json& odd = odd_[count_++ % std::size(odd_)];
        Json changed = json;
        changed[place] = odd;
        use(changed, place.to_string() + " = " + odd.dump());
      }
    }
  }
  void expect_no_bug(const ProcessResult& result, const std::string& what) const {
    refused_ += result.exit_code == 0 ? 0 : 1;
    ++runs_;
    EXPECT_TRUE(result.exit_code >= 0 && result.exit_code <= 2) << result.exit_code << " " << what << "\n"
                                                                << result.err;
    EXPECT_EQ(result.exit_code != 0, result.err.find("error: ") != std::string::npos) << what;
  }
  mutable size_t count_ = 0;
  mutable int refused_ = 0, runs_ = 0;
};

TEST_F(Configuration, OddModelConfigurations) {
  directory_.write("m/model.safetensors", TinyMamba().bytes());
  const Json config = {{"architectures", {"MambaForCausalLM"}},
                       {"model_type", "mamba"},
                       {"hidden_size", 4},
                       {"num_hidden_layers", 1},
                       {"state_size", 2},
                       {"conv_kernel", 4},
                       {"intermediate_size", 8},
                       {"time_step_rank", 1},
                       {"layer_norm_epsilon", 1e-5},
                       {"hidden_act", "silu"},
                       {"rms_norm", true},
                       {"tie_word_embeddings", true},
                       {"bos_token_id", 0},
                       {"torch_dtype", "float32"}};
  for_each_mutation(config, [&](const Json& changed, const std::string& what) {
    directory_.write("m/config.json", changed.dump());
    expect_no_bug(run({"m", "--method", "rtn", "--samples", "1", "--seq-len", "4", "-o", "q", "--force"}),
                  what);
  });
  EXPECT_GE(refused_, runs_ / 4);  // some odd values do no harm
  directory_.write("m/config.json", "3");
  expect_error({"m", "--method", "rtn", "-o", "r"}, 1, {"config.json", "JSON object"});
}

TEST_F(Configuration, OddQuantizationConfigurations) {
  directory_.write("m.safetensors", TinyMamba().bytes());
  run_well({"m.safetensors", "--method", "quamba", "--samples", "2", "--seq-len", "8", "-o", "q"});
  const Json config = read_json_file(directory_ / "q/config.json");
  const std::string ids =
      directory_.write("ids.bin", std::string("\1\0\2\0\3\0\4\0", 8) + std::string(56, '\0'));
  run_well({"eval", "q", "--text", ids, "--token-dtype", "u16", "--seq-len", "8"});
  Json ours = config["quantization_config"];
  ours.erase("recipe");
  for_each_mutation(ours, [&](const Json& changed, const std::string& what) {
    if (count_ % 5 != 0) return;  // of some hundred places every fifth, with each odd value in turn
    Json document = config;
    document["quantization_config"] = changed;
    directory_.write("q/config.json", document.dump());
    expect_no_bug(run({"eval", "q", "--text", ids, "--token-dtype", "u16", "--seq-len", "8"}), what);
  });
  EXPECT_GE(refused_, runs_ / 4);  // some odd values do no harm
}

TEST_F(Configuration, ArtifactsAreNotQuantizedAgain) {
  quantize({"--method", "rtn"}, "q");
  expect_error({"q", "--method", "rtn", "-o", "r"}, 1, {"q: is already quantized", "float checkpoint"});
  directory_.write("o/model.safetensors", TinyMamba().bytes());
  directory_.write("o/config.json", R"({"quantization_config": {"quant_method": "hqq"}})");
  expect_error({"o", "--method", "rtn", "-o", "r"}, 1, {"another program", "hqq"});
  directory_.write("o/config.json", R"({"quantization_config": {"quant_method": "gptq"}})");
  expect_error({"o", "--method", "rtn", "-o", "r"}, 1, {"no weight is in codes"});
}

}  // namespace
}  // namespace ptq
