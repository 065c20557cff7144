// Quantizing: methods and options of a run.
#include "cli/cli.h"
#include "cli/tiny_mamba.h"
#include "ptq/report/json_schema.h"

namespace ptq {
namespace {

using Quantize = Cli;

Words list_files(const std::string& path) {
  Words names;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST_F(Quantize, BareFileWithoutCalibrationWritesTheDefaultDirectory) {
  const ProcessResult result = run_well({"--method", "quamba", model_, "--samples", "4", "--seq-len", "16"});
  EXPECT_NE(result.out.find("text written by the float model itself (64 tokens)"), std::string::npos);
  EXPECT_NE(result.err.find("the float model writes its own calibration text"), std::string::npos);
  EXPECT_EQ(directory_.list(), (Words{"model-quamba-w8a8"}));
  EXPECT_EQ(list_files(directory_ / "model-quamba-w8a8"),
            (Words{"SHA256SUMS", "config.json", "model.safetensors", "report.json", "tokenizer.json"}));
  EXPECT_EQ(run_json({"inspect", "model-quamba-w8a8"})["kind"], "quantized");
}

class EveryMethod : public Cli, public ::testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(EveryMethod, WritesAnArtifactAndAReportOfTheSchema) {
  const auto [method, bits] = GetParam();
  quantize({"--method", method, "--bits", bits}, "q");
  const Json json = report("q");
  for (const std::string& error : schema_errors(read_json_file(PTQ_REPORT_SCHEMA), json))
    ADD_FAILURE() << error;
  EXPECT_LT(json["quality"]["perplexity_quantized"].get<double>(),
            1.2 * json["quality"]["perplexity_float"].get<double>());
  EXPECT_LT(json["output"]["bits_per_weight"].get<double>(), 13);
  run_well({"generate", "q", "--prompt", "First", "--max-tokens", "2"});
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod,
                         ::testing::Values(std::pair("quamba", "w8a8"), std::pair("rtn", "w8a16"),
                                           std::pair("rtn", "w4a16"), std::pair("rtn", "w8a8"),
                                           std::pair("smoothquant", "w8a8")),
                         [](const auto& entry) {
                           return std::string(entry.param.first) + "_" + entry.param.second;
                         });

TEST_F(Quantize, JsonOnStdoutIsTheReport) {
  const Json json = run_json(Words{model_, "--method", "rtn", "-o", "q"} + small_);
  EXPECT_EQ(json, report("q"));
}

TEST_F(Quantize, QuietSaysNothingOnStderr) {
  EXPECT_EQ(run_well(Words{model_, "--method", "rtn", "-o", "q", "--quiet"} + small_).err, "");
}

TEST_F(Quantize, SameInputsGiveTheSameBytes) {
  quantize({"--method", "quamba"}, "a");
  quantize({"--method", "quamba"}, "b");
  quantize({"--method", "quamba", "--threads", "2"}, "c");
  EXPECT_EQ(weights("a"), weights("b"));
  EXPECT_EQ(weights("a"), weights("c"));
  EXPECT_EQ(directory_.read("a/config.json"), directory_.read("b/config.json"));
}

TEST_F(Quantize, SkippedLayersStayFloatAndAreReported) {
  quantize({"--method", "rtn", "--skip", "*.0.mixer.out_proj", "--skip", "*.x_proj"}, "q");
  const Json json = report("q");
  EXPECT_EQ(json["fallbacks"].size(), 0U);
  EXPECT_EQ(json["decisions"].size(), 5U);
  EXPECT_EQ(json["decisions"][0]["why"], "skipped by the recipe");
  EXPECT_EQ(json["recipe"]["skip"].size(), 2U);
}

TEST_F(Quantize, StrictAcceptsWhatWasAskedFor) {
  // `--skip` is asked for by the user, least bits by the architecture's table (dt_proj bears 8).
  quantize({"--method", "rtn", "--bits", "w4a16", "--skip", "*.x_proj", "--strict"}, "q");
  const Json json = report("q");
  EXPECT_EQ(json["fallbacks"].size(), 0U);
  EXPECT_EQ(json["decisions"].size(), 8U);
}

TEST_F(Quantize, SkippedTiedHeadKeepsTheEmbeddingFloat) {
  quantize({"--method", "rtn", "--skip", "lm_head", "--embedding", "int8", "--strict"}, "q");
  const Json json = report("q");
  ASSERT_EQ(json["decisions"].size(), 1U);
  EXPECT_EQ(json["decisions"][0]["where"], "backbone.embedding.weight");
  EXPECT_EQ(json["decisions"][0]["why"], "lm_head.weight, the same tensor, is skipped by the recipe");
  for (const Json& layer : json["layers"]) EXPECT_NE(layer["role"], "embedding");
}

TEST_F(Quantize, EmbeddingInInt8IsSmaller) {
  quantize({"--method", "rtn"}, "a");
  quantize({"--method", "rtn", "--embedding", "int8"}, "b");
  EXPECT_LT(weights("b").size() + 200'000, weights("a").size());
  EXPECT_EQ(report("b")["layers"].back()["role"], "embedding");
}

TEST_F(Quantize, ShardsAreReadBack) {
  quantize({"--method", "quamba"}, "whole");
  quantize({"--method", "quamba", "--max-shard-size", "300KB"}, "shards");
  const Json index = read_json_file(directory_ / "shards/model.safetensors.index.json");
  int shards = 0;
  for (const std::string& name : list_files(directory_ / "shards")) {
    if (!name.starts_with("model-0")) continue;
    ++shards;
    EXPECT_LT(std::filesystem::file_size(directory_ / ("shards/" + name)), 540'000U) << name;
  }
  EXPECT_GE(shards, 3);
  const Words text = {"--text", eval_, "--seq-len", "64", "--max-tokens", "200"};
  EXPECT_EQ(run_json(Words{"eval", "whole"} + text), run_json(Words{"eval", "shards"} + text));
  EXPECT_EQ(report("whole")["output"]["bytes"].get<int64_t>() / 10'000,
            report("shards")["output"]["bytes"].get<int64_t>() / 10'000);
}

TEST_F(Quantize, StrictTurnsFallbacksIntoAnError) {
  expect_error(Words{model_, "--method", "quamba", "--samples", "100", "--seq-len", "2000", "--strict"} +
                   Words{"--calib", calib_, "-o", "q"},
               1, {"--strict", "not done as asked", "100 were asked for"});
  run_well(Words{model_, "--method", "quamba", "--strict", "-o", "q"} + small_);
}

// That other bytes would buy more is advice, not something that was not done.
TEST_F(Quantize, StrictLetsAdviceOnBetterBasesPass) {
  run_well(Words{PTQ_TEST_DATA "/llama-1m", "--method", "qera", "--base", "mxint3", "--rank", "48",
                 "--strict", "-o", "q"} +
           Words{"--samples", "32", "--seq-len", "64", "--calib", calib_});
  EXPECT_NE(report("q")["warnings"].dump().find("a better base of no more bytes"), std::string::npos);
}

TEST_F(Quantize, WindowsAreEnoughForEveryFileAndForAPrediction) {
  expect_error(Words{model_, "--method", "rtn", "--calib", calib_, "--calib", eval_, "-o", "q"} +
                   Words{"--samples", "1"},
               2, {"--samples", "1 windows cannot be shared by 2 files"});
  expect_error({model_, "--method", "rtn", "--calib", "", "-o", "q"}, 2, {"--calib", "is empty"});
  run_well(Words{model_, "--method", "gptq", "--samples", "1", "--seq-len", "32", "-o", "one"} +
           Words{"--calib", calib_});
  EXPECT_NE(report("one")["warnings"].dump().find("one calibration window"), std::string::npos);
  expect_error(Words{model_, "--method", "rtn", "--seq-len", "1", "-o", "q"}, 2, {"seq_len: 1 is outside 2"});
}

TEST_F(Quantize, ExistingOutputNeedsForce) {
  quantize({"--method", "rtn"}, "q");
  const std::string before = directory_.read("q/report.json");
  expect_error(Words{model_, "--method", "rtn", "-o", "q"} + small_, 1, {"q: already exists", "--force"});
  EXPECT_EQ(directory_.read("q/report.json"), before);
  quantize({"--method", "quamba", "--force"}, "q");
  EXPECT_EQ(report("q")["recipe"]["method"], "quamba");
  EXPECT_EQ(directory_.list(), (Words{"q"}));
}

TEST_F(Quantize, ForceDoesNotReplaceWhatOthersWrote) {
  directory_.write("mine/letter.txt", "dear");
  expect_error(Words{model_, "--method", "rtn", "-o", "mine", "--force"} + small_, 1, {"mine", "--force"});
  EXPECT_EQ(directory_.read("mine/letter.txt"), "dear");
}

TEST_F(Quantize, LicencesAndTemplatesAreCopiedListedVerifiedAndReplaced) {
  directory_.write("m/model.safetensors", testing::TinyMamba().bytes());
  const Words names = {"LICENSE", "NOTICE.txt", "added_tokens.json", "additional_chat_templates/rag.jinja",
                       "tekken.json"};
  for (const std::string& name : names) directory_.write("m/" + name, "of " + name);
  const Words arguments = {"m", "--method", "quamba", "--samples", "2", "--seq-len", "8", "-o", "q"};
  const Json planned = run_json(Words{"plan"} + arguments)["output"]["files"];
  run_well(arguments);
  const std::string sums = directory_.read("q/SHA256SUMS");
  for (const std::string& name : names) {
    EXPECT_EQ(directory_.read("q/" + name), "of " + name);
    EXPECT_EQ(report("q")["output"]["files"][name], name.size() + 3) << name;
    EXPECT_EQ(planned[name], name.size() + 3) << name;
    EXPECT_NE(sums.find("  " + name + "\n"), std::string::npos) << name;
  }
  run_well({"verify", "q", "--source", "m"});
  run_well(arguments + Words{"--force"});
  directory_.write("q/additional_chat_templates/mine.jinja", "mine");
  EXPECT_EQ(run({"verify", "q"}).exit_code, 4);
  expect_error(arguments + Words{"--force"}, 1, {"additional_chat_templates/mine.jinja"});
}

TEST_F(Quantize, QualityIsMeasuredOnTheTextAskedFor) {
  quantize({"--method", "rtn", "--eval-text", eval_}, "q");
  EXPECT_EQ(report("q")["quality"]["text"], "shakespeare-eval.txt");
  EXPECT_GT(report("q")["quality"]["tokens"].get<int64_t>(), 10'000);
}

TEST_F(Quantize, TokenFilesCalibrateAsTheirTextDoes) {
  const std::string text = directory_.write(
      "a.txt", directory_.read("a.txt") +
                   std::string("First Citizen: Before we proceed any further, hear me speak. All: Speak, "
                               "speak. First Citizen: You are "
                               "all resolved rather to die than to famish? All: Resolved, resolved. First "
                               "Citizen: First, you know "
                               "Caius Marcius is chief enemy to the people. All: We know it, we know it."));
  const Json ids = parse_json(run_well({"tokenize", "--tokenizer", tokenizer_, "--text", text}).out, "ids");
  std::string int32;
  for (const Json& id : ids) int32 += testing::le(id.get<int32_t>());
  const std::string count = std::to_string(ids.size());
  std::string npy = "{'descr': '<i4', 'fortran_order': False, 'shape': (" + count + ",), }";
  npy.append(117 - npy.size(), ' ');
  const std::string header = R"({"input_ids":{"dtype":"I32","shape":[)" + count + R"(],"data_offsets":[0,)" +
                             std::to_string(int32.size()) + "]}}";
  const Words files = {text,
                       directory_.write("a.npy", std::string("\x93NUMPY\x01\x00", 8) +
                                                     testing::le<uint16_t>(118) + npy + "\n" + int32),
                       directory_.write("a.safetensors", testing::safetensors(header, int32)),
                       directory_.write("a.jsonl", Json({{"text", directory_.read("a.txt")}}).dump() + "\n")};
  std::string first;
  for (const std::string& file : files) {
    run_well({model_, "--method", "quamba", "--quiet", "--samples", "4", "--seq-len", "16", "-o", "q",
              "--force", "--calib", file});
    if (first.empty()) first = weights("q");
    EXPECT_EQ(weights("q"), first) << file;
  }
}

TEST_F(Quantize, SeveralCalibrationFilesShareTheSamples) {
  quantize({"--method", "quamba", "--calib", eval_}, "q");
  const Json calibration = report("q")["calibration"];
  EXPECT_EQ(calibration["source"], "shakespeare-eval.txt, shakespeare-calib.txt");
  EXPECT_EQ(calibration["samples"], 8);
}

TEST_F(Quantize, FileNamesThatAreNotUtf8CanBeReported) {
  std::filesystem::copy_file(calib_, directory_ / "\xff.txt");
  run_well(Words{model_, "--method", "rtn", "--bits", "w8a8", "-o", "q", "--calib", directory_ / "\xff.txt",
                 "--eval-text", directory_ / "\xff.txt", "--seq-len", "16"});
  EXPECT_EQ(report("q")["quality"]["text"], "\uFFFD.txt");
}

TEST_F(Quantize, OptionsThatRepeatDoNotSwallowTheModel) {
  run_well(
      Words{"--method", "quamba"} + small_ +
      Words{"--set", "quamba.hadamard=false", "--skip", "*.x_proj", "--calib", calib_, model_, "-o", "q"});
  EXPECT_EQ(report("q")["recipe"]["steps"].size(), 4U);
}

TEST_F(Quantize, TokenizerNobodyNeedsMayBeUnreadable) {
  std::filesystem::copy_file(model_, directory_ / "model.pt");
  directory_.write("tokenizer.json", R"({"model": {"type": "Unigram"}})");
  run_well({"model.pt", "--method", "rtn", "--samples", "2", "--seq-len", "16", "-o", "q"});
  ASSERT_EQ(report("q")["warnings"].size(), 1U);
  EXPECT_NE(report("q")["warnings"][0].get<std::string>().find("copied unread"), std::string::npos);
  expect_error({"model.pt", "--method", "rtn", "--calib", calib_, "-o", "r"}, 1, {"tokenizer.json"});
}

}  // namespace
}  // namespace ptq
