// quantize export: what it writes, and what it refuses.
#include "cli/cli.h"

namespace ptq {
namespace {

const std::string kLlama = PTQ_TEST_DATA "/llama-1m";

class Export : public Cli {
 protected:
  Words quick(const std::string& method, const Words& more, const std::string& output) const {
    return Words{kLlama,      "--method", method,      "--calib", PTQ_TEST_DATA "/shakespeare-calib.txt",
                 "--samples", "8",        "--seq-len", "64",      "-o",
                 output} +
           more;
  }
};

TEST_F(Export, PeftWritesAnAdapterAndItsBase) {
  run_well(
      quick("qera", {"--base", "int4-g128", "--rank", "4", "--set", "qera.ranks={\"*.down_proj\": 6}"}, "q"));
  const Json done = run_json({"export", "q", "--format", "peft", "-o", "a"});
  EXPECT_EQ(done["rank"], 6);
  EXPECT_EQ(done["modules"], 28);
  const Json adapter = read_json_file(directory_ / "a/adapter_config.json");
  EXPECT_EQ(adapter["r"], 6);
  EXPECT_EQ(adapter["lora_alpha"], 6);
  EXPECT_EQ(adapter["base_model_name_or_path"], "a-base");
  EXPECT_EQ(adapter["target_modules"].size(), 7U);
  const auto header = run_json({"inspect", "a-base"});
  EXPECT_FALSE(read_json_file(directory_ / "a-base/config.json").contains("quantization_config"));
  // The base alone is the rounded model without its corrections; it runs as any float model does.
  const Words text = {"--text", PTQ_TEST_DATA "/shakespeare-eval.txt", "--seq-len", "64", "--max-tokens",
                      "640"};
  const double base = run_json(Words{"eval", "a-base"} + text)["perplexity"].get<double>();
  const double whole = run_json(Words{"eval", "q"} + text)["perplexity"].get<double>();
  EXPECT_GT(base, whole);
}

TEST_F(Export, CorrectionsThatPeftRefusesAreFoldedIntoTheBase) {
  const Words calibrated = {"--calib", PTQ_TEST_DATA "/shakespeare-calib.txt", "--samples", "8", "--seq-len",
                            "64"};
  run_well(Words{PTQ_TEST_DATA "/mamba-1m/model.pt", "--method", "qera", "--base", "mxint2", "--rank", "4",
                 "-o", "q"} +
           calibrated);
  const Json done = run_json({"export", "q", "--format", "peft", "-o", "a", "--dtype", "f32"});
  ASSERT_EQ(done["folded"].size(), 4U);  // out_proj of each layer
  EXPECT_EQ(done["folded"][0], "backbone.layers.0.mixer.out_proj");
  EXPECT_EQ(done["modules"], 8);  // in_proj and x_proj; dt_proj bears no 2 bits
  const Json adapter = read_json_file(directory_ / "a/adapter_config.json");
  EXPECT_EQ(adapter["target_modules"], Json({"in_proj", "x_proj"}));
  EXPECT_NE(directory_.read("a/README.md").find("- `backbone.layers.3.mixer.out_proj`\n"), std::string::npos);
  EXPECT_EQ(directory_.read("a/adapter_model.safetensors").find("out_proj"), std::string::npos);
  // What the output computes with is the rounded weight and its correction.
  int64_t folded = 0, beside = 0;
  const Json diff = run_json({"diff", "a-base", "q"});
  for (const Json& row : diff["tensors"]) {
    const auto name = row["name"].get<std::string>();
    if (name.ends_with("out_proj.weight")) {
      ++folded;
      EXPECT_LT(row["relative_error"].get<double>(), 1e-6) << name;
    } else if (name.ends_with("in_proj.weight")) {
      ++beside;
      EXPECT_GT(row["relative_error"].get<double>(), 1e-3) << name;
    }
  }
  EXPECT_EQ(folded, 4);
  EXPECT_EQ(beside, 4);
}

TEST_F(Export, CompressedTensorsIsMeasuredComparedAndRunLikeTheOutputItIsOf) {
  run_well(quick("gptq", {"--bits", "w4a16"}, "q"));
  const Json done = run_json({"export", "q", "--format", "compressed-tensors", "-o", "ct"});
  EXPECT_EQ(done["format"], "compressed-tensors");
  EXPECT_EQ(done["layers"], Json({{"pack-quantized", 28}}));
  EXPECT_TRUE(done["unrounded_sites"].empty());
  const Words text = {"--text", PTQ_TEST_DATA "/shakespeare-eval.txt", "--seq-len", "64", "--max-tokens",
                      "640"};
  EXPECT_EQ(run_json(Words{"eval", "ct"} + text)["perplexity"],
            run_json(Words{"eval", "q"} + text)["perplexity"]);
  const Json inspected = run_json({"inspect", "ct"});
  EXPECT_EQ(inspected["kind"], "quantized");
  EXPECT_EQ(inspected["architecture"], "llama");
  EXPECT_EQ(inspected["parameters"], run_json({"inspect", "q"})["parameters"]);
  const Json diff = run_json({"diff", "q", "ct"});
  EXPECT_EQ(diff["summary"]["changed"], 0);
  EXPECT_EQ(diff["summary"]["only_a"], 0);
  EXPECT_EQ(diff["summary"]["only_b"], 0);
  const Words prompt = {"--prompt", "KING", "--max-tokens", "8"};
  EXPECT_EQ(run_well(Words{"generate", "ct"} + prompt).out, run_well(Words{"generate", "q"} + prompt).out);
  EXPECT_EQ(run_json({"verify", "ct"})["weights_in_codes"], 28);
  expect_error({"export", "ct", "--format", "compressed-tensors"}, 1,
               {"is in the format compressed-tensors already"});
}

TEST_F(Export, FormatsOfWeightsAreMeasuredComparedVerifiedAndRun) {
  run_well(quick("gptq", {"--bits", "w4a16", "--set", "gptq.symmetric=true"}, "q"));
  const Words text = {"--text", eval_, "--seq-len", "64", "--max-tokens", "640"};
  const Words prompt = {"--prompt", "KING", "--max-tokens", "8"};
  for (const std::string format : {"gptq", "awq"}) {
    SCOPED_TRACE(format);
    const Json done = run_json({"export", "q", "--format", format});
    const auto output = done["output"].get<std::string>();
    EXPECT_EQ(output, "q-" + format);
    EXPECT_EQ(done["layers"], 28);
    EXPECT_EQ(run_json(Words{"eval", output} + text)["perplexity"],
              run_json(Words{"eval", "q"} + text)["perplexity"]);
    EXPECT_EQ(run_json({"inspect", output})["parameters"], run_json({"inspect", "q"})["parameters"]);
    EXPECT_EQ(run_json({"diff", "q", output})["summary"]["changed"], 0);
    EXPECT_EQ(run_well(Words{"generate", output} + prompt).out,
              run_well(Words{"generate", "q"} + prompt).out);
    const Json verified = run_json({"verify", output});
    EXPECT_EQ(verified["weights_in_codes"], 28);
    EXPECT_EQ(verified["checksums"], true);
  }
  expect_error({"export", "q", "--format", "bitsandbytes"}, 1, {"is in codes of integer"});
  expect_error({"verify", "q-awq", "--source", kLlama}, 2, {"--source", "`quantize diff` of the two"});
}

TEST_F(Export, VerifyNamesEveryWeightThatIsWrong) {
  run_well(quick("rtn", {"--bits", "w4a16"}, "q"));
  run_well({"export", "q", "--format", "gptq"});
  std::string bytes = directory_.read("q-gptq/model.safetensors");
  bytes.replace(bytes.size() - 64, 64, std::string(64, '\xff'));  // NaN
  directory_.write("q-gptq/model.safetensors", bytes);
  const ProcessResult damaged = run({"verify", "q-gptq"});
  EXPECT_EQ(damaged.exit_code, 4);
  EXPECT_NE(damaged.out.find("model.safetensors: has the SHA-256"), std::string::npos) << damaged.out;
  EXPECT_NE(damaged.out.find("values are NaN or infinite"), std::string::npos) << damaged.out;
}

TEST_F(Export, WhatOtherProgramsQuantizedIsTheSourceOfARun) {
  run_well({"export", kLlama, "--format", "gguf", "--type", "q8_0", "-o", "x.gguf"});
  run_well({"x.gguf", "--method", "rtn", "--bits", "w8a16", "-o", "q"});
  EXPECT_EQ(report("q")["source"]["format"], "gguf");
  EXPECT_TRUE(std::filesystem::exists(directory_ / "q/tokenizer.json"));
  const Words text = {"--text", eval_, "--seq-len", "64", "--max-tokens", "640"};
  const double of_file = run_json(Words{"eval", "x.gguf"} + text)["mean_nll"].get<double>();
  EXPECT_NEAR(run_json(Words{"eval", "q"} + text)["mean_nll"].get<double>(), of_file, 2e-3);
  EXPECT_TRUE(run_json({"verify", "q"})["differences"].empty());
  const Json plan = run_json({"plan", "x.gguf", "--method", "rtn", "--bits", "w8a16"});
  EXPECT_EQ(plan["output"]["bytes"], report("q")["output"]["bytes"]);
}

TEST_F(Export, RunsWriteFormatsBesideTheirOutput) {
  const ProcessResult done =
      run_well(quick("rtn", {"--bits", "w4a16", "--format", "gptq", "--format", "pt"}, "q/"));
  EXPECT_NE(done.out.find("q-gptq: GPTQ, 28 layers of 4 bits"), std::string::npos) << done.out;
  EXPECT_TRUE(std::filesystem::exists(directory_ / "q.pt"));
  EXPECT_EQ(run_json({"verify", "q-gptq"})["weights_in_codes"], 28);
  expect_error(quick("rtn", {"--bits", "w4a16", "--format", "gptq"}, "q"), 1, {"already exists"});
}

TEST_F(Export, FormatsThatDoNotHoldWhatARunWillMakeAreRefusedBeforeIt) {
  for (const Words& command : {Words{}, Words{"plan"}}) {
    expect_error(command + quick("gptq", {"--bits", "w4a16", "--format", "gptq"}, "q"), 1,
                 {"--format gptq: ", "has zero points", "--format awq"});
    expect_error(command + quick("rtn", {"--bits", "w8a8", "--format", "awq"}, "q"), 1,
                 {"rounds activations"});
    expect_error(command + quick("rtn", {"--bits", "w4a16", "--format", "awk"}, "q"), 2,
                 {"did you mean \"awq\"?"});
    expect_error(command + quick("rtn", {"--bits", "w4a16", "--format", "awq", "--format", "awq"}, "q"), 2,
                 {"awq is named twice"});
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "q"));
}

TEST_F(Export, WhatCompressedTensorsCannotHoldIsRefusedAndLeavesNothing) {
  run_well(quick("duquant", {"--bits", "w4a4"}, "q"));
  expect_error({"export", "q", "--format", "compressed-tensors", "-o", "ct"}, 1,
               {"sites.qkv.input: has an online transform", "try: --method gptq or smoothquant"});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "ct"));
  run_well(quick("qera", {"--base", "int4-g32", "--rank", "4"}, "corrected"));
  directory_.write("ct-adapter", "mine");
  expect_error({"export", "corrected", "--format", "compressed-tensors", "-o", "ct"}, 1,
               {"ct-adapter: already exists"});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "ct"));
  EXPECT_EQ(directory_.read("ct-adapter"), "mine");
}

TEST_F(Export, WhatLiesThereStays) {
  run_well(quick("qera", {"--base", "int4-g128", "--rank", "4"}, "q"));
  directory_.write("a-base", "mine");
  expect_error({"export", "q", "--format", "peft", "-o", "a"}, 1, {"a-base: already exists"});
  directory_.write("b", "mine");
  expect_error({"export", "q", "--format", "peft", "-o", "b"}, 1, {"b: already exists"});
  EXPECT_EQ(directory_.read("b"), "mine");
}

TEST_F(Export, WhatPeftCannotRunIsRefusedAndLeavesNothing) {
  run_well(quick("rtn", {"--bits", "w4a16"}, "plain"));
  expect_error({"export", "plain", "--format", "peft", "-o", "a"}, 1, {"no low-rank corrections"});
  run_well(quick("rtn", {"--bits", "w8a8"}, "rounded"));
  expect_error({"export", "rounded", "--format", "peft", "-o", "a"}, 1, {"activations"});
  expect_error({"export", kLlama, "--format", "peft", "-o", "a"}, 1, {"float checkpoint"});
  expect_error({"export", "plain", "--format", "pefd", "-o", "a"}, 2, {"did you mean \"peft\"?"});
  expect_error({"export", "plain", "--format", "peft", "--dtype", "f8", "-o", "a"}, 2,
               {"--dtype: \"f8\" is not a dtype of a base"});
  expect_error({"export", "plain", "--format", "ptq", "-o", "a"}, 1, {"plain: is in this format"});
  expect_error({"export", "plain", "--format", "ptq", "--dtype", "f16", "-o", "a"}, 2,
               {"--dtype: the format ptq has no such option"});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "a"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "a-base"));
}

TEST_F(Export, GgufComputesWhatTheOutputDoes) {
  run_well(quick("rtn", {"--bits", "w4a16"}, "q"));
  const Json done = run_json({"export", "q", "--format", "gguf"});
  EXPECT_EQ(done["output"], "q.gguf");
  EXPECT_EQ(done["tokenizer"], "gpt2");
  EXPECT_EQ(
      done["types"]["Q4_0"],
      (Json{{"tensors", 28}, {"bytes", 396288}, {"exact", 28}, {"other_rows", 0}, {"sqnr_db", nullptr}}));
  // The file is read where nothing lies beside it, with the tokenizer that it holds.
  std::filesystem::create_directory(directory_ / "alone");
  std::filesystem::rename(directory_ / "q.gguf", directory_ / "alone/q.gguf");
  const Words text = {"--text", eval_, "--seq-len", "64", "--max-tokens", "640"};
  EXPECT_EQ(run_json(Words{"eval", "alone/q.gguf"} + text), run_json(Words{"eval", "q"} + text));
  const Words story = {"--prompt", "The king", "--max-tokens", "8"};
  EXPECT_EQ(run_well(Words{"generate", "alone/q.gguf"} + story).out,
            run_well(Words{"generate", "q"} + story).out);
  const Json diff = run_json({"diff", "q", "alone/q.gguf"});
  EXPECT_EQ(diff["summary"]["same"], 38);
  EXPECT_EQ(diff["tensors"].size(), 38U);
  EXPECT_EQ(run_json({"verify", "alone/q.gguf"})["checksums"], false);
  const Json seen = run_json({"inspect", "alone/q.gguf"});
  EXPECT_EQ(seen["kind"], "quantized");
  EXPECT_EQ(seen["architecture"], "llama");
  EXPECT_EQ(seen["parameters"], 967808);
  EXPECT_EQ(seen["tensors"][0]["name"], "blk.0.attn_k.weight");
  EXPECT_EQ(seen["tensors"][0]["dtype"], "Q4_0");
  EXPECT_EQ(seen["not_finite"], 0);
}

TEST_F(Export, FloatCheckpointsBecomeGgufToo) {
  const Json done = run_json({"export", model_, "--format", "gguf", "--type", "q8_0", "-o", "m.gguf"});
  EXPECT_EQ(done["architecture"], "mamba");
  EXPECT_EQ(done["types"]["Q8_0"]["tensors"], 13);
  EXPECT_EQ(done["types"]["F16"]["other_rows"], 4);  // dt_proj has rows of 8
  EXPECT_GT(done["types"]["Q8_0"]["sqnr_db"].get<double>(), 40);
  const Words text = {"--text", eval_, "--seq-len", "64", "--max-tokens", "640"};
  const double floats = run_json(Words{"eval", model_} + text)["mean_nll"].get<double>();
  EXPECT_NEAR(run_json(Words{"eval", "m.gguf"} + text)["mean_nll"].get<double>(), floats, 0.01);
  const Json without =
      run_json({"export", model_, "--format", "gguf", "--tokenizer", "none", "-o", "n.gguf"});
  EXPECT_EQ(without["tokenizer"], "no_vocab");
  expect_error(Words{"eval", "n.gguf"} + text, 1, {"tokenizer"});
  run_well(Words{"eval", "n.gguf", "--tokenizer", tokenizer_} + text);
}

TEST_F(Export, GgufRefusesWhatItCannotHold) {
  run_well(quick("duquant", {"--bits", "w4a4"}, "q"));
  expect_error({"export", "q", "--format", "gguf"}, 1,
               {"model.layers.0.sites.", "online transform", "--method gptq or smoothquant"});
  expect_error({"export", kLlama, "--format", "gguf", "--type", "q4_j"}, 2, {"did you mean \"q4_"});
  expect_error({"export", kLlama, "--format", "gguf", "--outtype", "q4_0"}, 2, {"--outtype"});
  directory_.write("x.gguf", "mine");
  expect_error({"export", kLlama, "--format", "gguf", "-o", "x.gguf"}, 1, {"x.gguf: already exists"});
  expect_error({"export", kLlama, "--format", "gguf", "-o", "no/x.gguf"}, 1, {"no/x.gguf"});
}

TEST_F(Export, DamagedGgufIsAnError) {
  run_well({"export", kLlama, "--format", "gguf", "--type", "q8_0", "-o", "x.gguf"});
  const std::string whole = directory_.read("x.gguf");
  directory_.write("x.gguf", whole.substr(0, whole.size() / 2));
  for (const char* command : {"inspect", "eval", "generate"}) {
    Words words = {command, "x.gguf"};
    if (command == std::string("eval")) words = words + Words{"--text", eval_};
    if (command == std::string("generate")) words = words + Words{"--prompt", "a"};
    expect_error(words, 1, {"x.gguf", "lies outside"});
  }
  // A scale that is no number.
  std::string spoiled = whole;
  for (size_t i = whole.size() - 34 * 100; i < whole.size(); ++i) spoiled[i] = '\xff';
  directory_.write("x.gguf", spoiled);
  expect_error({"eval", "x.gguf", "--text", eval_}, 1, {"NaN or infinite"});
}

TEST_F(Export, WhatAnotherProgramWouldHaveQuantizedIsExportedAsAnyOutput) {
  run_well({kLlama, "--method", "rtn", "--bits", "w4a16", "-o", "q", "--format", "gptq", "--format", "gguf"});
  const Words text = {"--text", PTQ_TEST_DATA "/shakespeare-eval.txt", "--seq-len", "64", "--max-tokens",
                      "640"};
  const auto perplexity = [&](const std::string& model) {
    return run_json(Words{"eval", model} + text)["perplexity"].get<double>();
  };
  const Json done = run_json({"export", "q-gptq", "--format", "gguf", "-o", "again.gguf"});
  EXPECT_GT(done["types"]["Q4_0"]["exact"], 0);
  EXPECT_NEAR(perplexity("again.gguf"), perplexity("q.gguf"), 1e-3);
  // The tokenizer is that in the file.
  run_well({"export", "q.gguf", "--format", "compressed-tensors", "-o", "ct"});
  EXPECT_NEAR(perplexity("ct"), perplexity("q.gguf"), 1e-3);
  EXPECT_FALSE(read_json_file(directory_ / "ct/config.json")["quantization_config"].is_null());
  const ProcessResult same = run({"export", "q-gptq", "--format", "gptq", "-o", "x"});
  EXPECT_EQ(same.exit_code, 1);
  EXPECT_NE(same.err.find("is in the format gptq already"), std::string::npos) << same.err;
}

}  // namespace
}  // namespace ptq
