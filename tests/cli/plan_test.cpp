// quantize plan: what it prints, that it fails as a run would, and how near its estimate of memory is.
#include <fstream>

#include "cli/cli.h"
#include "cli/tiny_mamba.h"

namespace ptq {
namespace {

class Planned : public Cli {
 protected:
  const std::string llama_ = PTQ_TEST_DATA "/llama-1m";

  // A run with these options fails, and plan with the same message and exit code.
  void expect_same_error(const Words& options, const std::string& word) const {
    const ProcessResult planned = run(Words{"plan"} + options), done = run(options);
    EXPECT_NE(done.exit_code, 0);
    EXPECT_EQ(planned.exit_code, done.exit_code);
    EXPECT_EQ(planned.out, "");
    const auto message = [](const ProcessResult& result) {
      return result.err.substr(std::min(result.err.find("error: "), result.err.size()));
    };
    EXPECT_EQ(message(planned), message(done));
    EXPECT_NE(planned.err.find(word), std::string::npos) << planned.err;
  }
  struct Memory {
    double planned, needed;
  };
  // The estimate, and what a run has needed.
  Memory memory(const Words& options) const {
    const Json planned = run_json(Words{"plan"} + options + Words{"-o", "q", "--force"});
    run_well(options + Words{"-o", "q", "--quiet", "--force"});
    EXPECT_EQ(planned["output"]["bytes"], report("q")["output"]["bytes"]);
    return {planned["peak_memory_bytes"].get<double>(), report("q")["peak_rss_bytes"].get<double>()};
  }
  // The estimates are near what runs need, and so is what many rows need beyond few: most of a small run's
  // memory is that of the program, which hides the rest.
  void expect_memory(const Words& options) const {
    const Words small = {"--samples", "8", "--seq-len", "32"},
                large = {"--samples", "64", "--seq-len", "512"};
    const Memory few = memory(options + small), many = memory(options + large);
    EXPECT_GT(many.needed - few.needed, 50e6);
    for (const double ratio : {few.planned / few.needed, many.planned / many.needed}) {
      EXPECT_GT(ratio, 0.75) << options[0] << " " << options[2];
      EXPECT_LT(ratio, 1.3) << options[0] << " " << options[2];
    }
    // A difference of two peaks moves by more: a tenth of each, from run to run.
    const double growth = (many.planned - few.planned) / (many.needed - few.needed);
    EXPECT_GT(growth, 0.65) << options[0] << " " << options[2];
    EXPECT_LT(growth, 1.5) << options[0] << " " << options[2];
  }
  // Of all files in a directory.
  int64_t bytes_in(const std::string& name) const {
    int64_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / name)) {
      if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
    }
    return bytes;
  }
};

TEST_F(Planned, TextHasATableAndJsonEveryTensor) {
  const Words options = Words{"plan", model_, "--method", "quamba", "--skip", "*.0.mixer.x_proj"} + small_;
  const std::string text = run_well(options).out;
  for (const char* part :
       {"backbone.layers.*.mixer.in_proj.weight", "F16 -> 8 bits, one scale a tensor", "keep F16",
        "model-quamba-w8a8", "peak memory", "8 x 32 tokens", "skipped by the recipe"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  const Json json = run_json(options);
  EXPECT_EQ(json["tensors"].size(), 42U);
  EXPECT_EQ(json["tensors"][1]["name"], "backbone.layers.0.mixer.in_proj.weight");
  EXPECT_EQ(json["tensors"][1]["action"], "round");
  EXPECT_EQ(json["tensors"][1]["bits"], 8.0);
  EXPECT_EQ(json["tensors"][1]["bytes"], 512 * 128 + 512 * 4);
  EXPECT_EQ(json["calibration"]["tokens"], 8 * 32);
  EXPECT_TRUE(json["output"]["files"]["report.json"].is_null());
  EXPECT_GT(json["operations"].get<double>(), 1e8);
  EXPECT_TRUE(directory_.list().empty());
}

TEST_F(Planned, PrintRecipeIsThatOfARun) {
  const Words options = {"--method", "rtn", "--print-recipe"};
  EXPECT_EQ(run_well(Words{"plan"} + options).out, run_well(options).out);
}

TEST_F(Planned, ErrorsAreThoseOfARun) {
  directory_.write("there/file", "");
  directory_.write("m.safetensors", testing::TinyMamba().bytes());
  testing::TinyMamba wrong;
  wrong.shapes["backbone.layers.0.mixer.D"] = {4, 2};
  directory_.write("wrong.safetensors", wrong.bytes());
  expect_same_error({model_, "--method", "quamb"}, "did you mean \"quamba\"");
  expect_same_error({model_}, "--method");
  expect_same_error({"--method", "rtn"}, "MODEL");
  expect_same_error({model_, "--method", "quamba", "-o", "there"}, "already exists");
  expect_same_error({model_, "--method", "quamba", "-o", "there", "--force"},
                    "was not written by this program");
  expect_same_error({model_, "--method", "quamba", "-o", "no/where"}, "parent directory");
  expect_same_error({"nothing.pt", "--method", "quamba"}, "nothing.pt");
  expect_same_error({model_, "--method", "duquant"}, "duquant is for");
  expect_same_error({model_, "--method", "rtn", "--skip", "*.nothing"}, "no tensor matches");
  expect_same_error({model_, "--method", "rtn", "--calib", "nothing.txt", "--tokenizer", tokenizer_},
                    "nothing.txt");
  expect_same_error({model_, "--method", "rtn", "--eval-text", "nothing.txt", "--tokenizer", tokenizer_},
                    "nothing.txt");
  expect_same_error({model_, "--method", "rtn", "--max-shard-size", "much"}, "--max-shard-size");
  expect_same_error({model_, "--method", "rtn", "--device", "tpu"}, "tpu");
  expect_same_error({"wrong.safetensors", "--method", "rtn"}, "backbone.layers.0.mixer.D");
  expect_same_error({llama_, "--method", "duquant", "--set", "duquant.block=48"}, "blocks of 48");
  expect_same_error(Words{model_, "--method", "quamba", "--strict", "--samples", "9999", "--calib", calib_},
                    "--strict");
}

TEST_F(Planned, ForSaysWhereTheOutputLoadsAndWhatWouldHaveToChange) {
  const Words options = {"plan",  llama_,  "--method", "rtn",   "--bits",
                         "w4a16", "--for", "vllm",     "--for", "llama.cpp"};
  const std::string text = run_well(options).out;
  for (const char* part :
       {"for vllm", "compressed-tensors: loads", "Marlin (CUDA", "for llama.cpp", "gguf: loads", "Q4_0"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  const Json json = run_json(options + Words{"--set", "rtn.group=16"})["runtimes"];
  ASSERT_EQ(json.size(), 2U);
  EXPECT_EQ(json[0]["name"], "vllm");
  EXPECT_FALSE(json[0]["loads"].get<bool>());
  EXPECT_NE(json[0]["formats"][0]["reasons"].dump().find("groups of 16"), std::string::npos);
  EXPECT_NE(json[0]["formats"][0]["changes"].dump().find("--set rtn.group=128"), std::string::npos);
  EXPECT_TRUE(json[1]["loads"].get<bool>());
  const ProcessResult unknown = run({"plan", llama_, "--method", "rtn", "--for", "vlm"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_NE(unknown.err.find("did you mean \"vllm\""), std::string::npos) << unknown.err;
}

TEST_F(Planned, RunForARuntimeThatWouldNotLoadItDoesNothing) {
  const ProcessResult refused = run(
      {llama_, "--method", "rtn", "--bits", "w4a16", "--set", "rtn.group=16", "--for", "vllm", "-o", "q"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.err.find("--set rtn.group=128"), std::string::npos) << refused.err;
  EXPECT_TRUE(directory_.list().empty());
}

TEST_F(Planned, ReportHasTheProgramsThatThePlanNames) {
  const Words options = {llama_, "--method", "rtn", "--bits", "w4a16"};
  run_well(options + Words{"-o", "q", "--for", "vllm"});
  Json planned = Json::array();
  Words runtimes;
  const Json listed = run_json({"list", "--runtimes"});
  for (const Json& runtime : listed["runtimes"])
    runtimes = runtimes + Words{"--for", runtime["name"].get<std::string>()};
  const Json plan = run_json(Words{"plan"} + options + runtimes);
  for (const Json& runtime : plan["runtimes"]) {
    for (const Json& format : runtime["formats"]) {
      if (format["loads"].get<bool>())
        planned.push_back({{"runtime", runtime["name"]}, {"format", format["format"]}});
    }
  }
  EXPECT_EQ(report("q")["loads_in"], planned);
  EXPECT_GE(planned.size(), 5U);
  EXPECT_NE(run_well({"report", "q"}).out.find("vllm (compressed-tensors"), std::string::npos);
}

TEST_F(Planned, StrictRefusesWhatARunWouldRefuseAtItsEnd) {
  // There is no Hadamard matrix of 14 channels.
  const std::string odd = directory_.write("odd.safetensors", testing::TinyMamba(4, 14).bytes());
  expect_same_error({odd, "--method", "quamba", "--samples", "2", "--seq-len", "8", "--strict", "-o", "q"},
                    "4 things were not done as asked");
}

TEST_F(Planned, SharesOfABudgetTakeNoMoreThanPlanned) {
  for (const char* target : {"5", "12", "20"}) {
    const Words arguments = Words{llama_, "--method", "qera", "--target-bpw", target, "--samples", "16"} +
                            Words{"--seq-len", "64", "--calib", calib_, "-o", "q", "--force"};
    const Json plan = run_json(Words{"plan"} + arguments);
    EXPECT_TRUE(plan["output"]["at_most"].get<bool>());
    const Json output = run_json(arguments)["output"];
    EXPECT_LE(output["bytes"].get<int64_t>(), plan["output"]["bytes"].get<int64_t>()) << target;
    EXPECT_GT(output["bytes"].get<double>(), 0.97 * plan["output"]["bytes"].get<double>()) << target;
  }
}

TEST_F(Planned, RecipeWithFactorsInInt8HasSizes) {
  const Words arguments = Words{llama_, "--method", "qera", "--set", "qera.stored=int8", "--samples", "8"} +
                          Words{"--seq-len", "32", "--calib", calib_, "-o", "q"};
  const Json plan = run_json(Words{"plan"} + arguments);
  EXPECT_EQ(plan["output"]["bytes"], run_json(arguments)["output"]["bytes"]);
  EXPECT_NE(plan["warnings"].dump().find("224 calibration tokens for the 128 inputs"), std::string::npos);
}

TEST_F(Planned, PatternsOfOptionsThatMatchNothingAreUsageErrors) {
  for (const char* set : {R"(qera.linears=["nomatch"])", R"(qera.ranks={"nomatch": 4})"}) {
    expect_same_error({llama_, "--method", "qera", "--set", set, "--calib", calib_}, "no tensor matches");
  }
}

TEST_F(Planned, MemoryIsNearWhatARunNeedsAndGrowsAsItDoes) {
  expect_memory(Words{model_, "--method", "quamba", "--calib", calib_});
  expect_memory(Words{llama_, "--method", "gptq", "--calib", calib_});
}

// Between what the hidden states in memory and in a file need they lie in the file, with the same output; below
// that a run is refused with both numbers.
TEST_F(Planned, MemoryBoundMovesHiddenStatesAndRefusesWhatCannotFit) {
  const Words options = {model_,      "--method", "rtn",       "--bits", "w8a8",   "--calib",         calib_,
                         "--samples", "256",      "--seq-len", "512",    "--skip", "*.0.mixer.x_proj"};
  const Json memory = run_json(Words{"plan"} + options);
  const Json file = run_json(Words{"plan"} + options + Words{"--hidden-states", "file"});
  EXPECT_EQ(memory["hidden_states"], "memory");
  EXPECT_EQ(file["hidden_states"], "file");
  const auto most = memory["peak_memory_bytes"].get<int64_t>(),
             least = file["peak_memory_bytes"].get<int64_t>();
  ASSERT_GT(most, least + 20'000'000);
  const auto bounded = [&](int64_t bytes) { return options + Words{"--max-memory", std::to_string(bytes)}; };
  EXPECT_EQ(run_json(Words{"plan"} + bounded(most))["hidden_states"], "memory");
  EXPECT_EQ(run_json(Words{"plan"} + bounded(least))["hidden_states"], "file");
  const ProcessResult moved = run(bounded(least) + Words{"-o", "moved"});
  EXPECT_EQ(moved.exit_code, 0) << moved.err;
  EXPECT_NE(moved.err.find("hidden states lie in a file"), std::string::npos) << moved.err;
  run_well(options + Words{"-o", "plain"});
  EXPECT_EQ(directory_.read("moved/model.safetensors"), directory_.read("plain/model.safetensors"));
  expect_same_error(bounded(least - 1) + Words{"-o", "none"}, "--max-memory allows");
  expect_same_error(options + Words{"--max-memory", "much"}, "--max-memory");
}

// What a run that --strict has ended leaves beside its output, and what would have come on top.
TEST_F(Planned, DiskIsWhatLiesThereAtOnceWhileARunWrites) {
  const Words options = {model_, "--method", "rtn", "--bits", "w8a8", "--calib", calib_, "-o", "q"};
  for (const Words& rows :
       {Words{"--samples", "8", "--seq-len", "32"}, {"--samples", "64", "--seq-len", "256"}}) {
    const double planned = run_json(Words{"plan"} + options + rows)["disk_bytes"].get<double>();
    run_well(options + rows);
    const int64_t output = bytes_in("q");
    std::filesystem::remove_all(directory_ / "q");
    run(options + rows + Words{"--strict", "--eval-text", noise()});
    const int64_t beside = bytes_in(".q.partial");
    const auto stream = static_cast<int64_t>(std::filesystem::file_size(directory_ / ".q.partial/stream-4"));
    EXPECT_NEAR(planned / static_cast<double>(beside + std::max(stream, output)), 1, 0.05) << rows[1];
  }
}

// A sparse file: only its header has bytes.
TEST_F(Planned, SeventyBillionParametersNeedNoMoreThanTheirHeader) {
  const int64_t d = 8192, F = 28672, layers = 80, kv = 1024, V = 128256;
  Json header = Json::object();
  int64_t end = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    int64_t bytes = 2;
    for (const int64_t size : shape) bytes *= size;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  };
  add("model.embed_tokens.weight", {V, d});
  add("lm_head.weight", {V, d});
  add("model.norm.weight", {d});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      add(layer + norm + ".weight", {d});
    for (const char* square : {"q_proj", "o_proj"}) add(layer + "self_attn." + square + ".weight", {d, d});
    for (const char* narrow : {"k_proj", "v_proj"}) add(layer + "self_attn." + narrow + ".weight", {kv, d});
    for (const char* wide : {"gate_proj", "up_proj"}) add(layer + "mlp." + wide + ".weight", {F, d});
    add(layer + "mlp.down_proj.weight", {d, F});
  }
  Json config = read_json_file(llama_ + "/config.json");
  config.update({{"hidden_size", d},
                 {"intermediate_size", F},
                 {"num_hidden_layers", layers},
                 {"vocab_size", V},
                 {"num_attention_heads", 64},
                 {"num_key_value_heads", 8},
                 {"head_dim", 128},
                 {"tie_word_embeddings", false}});
  directory_.write("m/config.json", config.dump());
  const std::string file = directory_.write("m/model.safetensors", testing::safetensors(header.dump(), ""));
  std::filesystem::resize_file(file, std::filesystem::file_size(file) + static_cast<uintmax_t>(end));
  const ProcessResult result = run({"plan", "m", "--method", "duquant", "--json", "--calib", calib_,
                                    "--tokenizer", llama_ + "/tokenizer.json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = parse_json(result.out, "stdout");
  EXPECT_EQ(json["source"]["parameters"], 70'553'706'496);
  EXPECT_GT(json["output"]["bytes"].get<int64_t>(), 38'000'000'000);
  EXPECT_GT(json["peak_memory_bytes"].get<int64_t>(), int64_t{16} << 30);
  EXPECT_FALSE(json["output"]["files"].contains("model.safetensors"));  // shards
  EXPECT_LT(result.peak_rss_bytes, int64_t{200} << 20);
}

}  // namespace
}  // namespace ptq
