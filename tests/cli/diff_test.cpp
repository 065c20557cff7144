// quantize diff: two checkpoints, float or quantized, and two reports.
#include "cli/cli.h"
#include "cli/tiny_mamba.h"

namespace ptq {
namespace {

class Diff : public Cli {
 protected:
  // The row of one tensor.
  static Json row(const Json& diff, const std::string& name) {
    for (const Json& entry : diff["tensors"]) {
      if (entry["name"] == name) return entry;
    }
    ADD_FAILURE() << "no " << name;
    return {};
  }
};

TEST_F(Diff, CheckpointAgainstItselfIsTheSame) {
  const Json json = run_json({"diff", model_, model_});
  EXPECT_EQ(json["kind"], "checkpoints");
  EXPECT_EQ(json["summary"]["changed"], 0);
  EXPECT_EQ(json["summary"]["only_a"], 0);
  EXPECT_EQ(json["summary"]["same"], json["tensors"].size());
  quantize({"--method", "quamba"}, "q");
  EXPECT_EQ(run_json({"diff", "q", "q"})["summary"]["changed"], 0);
}

TEST_F(Diff, QuantizedAgainstFloatGivesTheErrorOfTheReport) {
  quantize({"--method", "quamba"}, "q");
  const Json json = run_json({"diff", model_, "q"});
  const Json summary = json["summary"];
  EXPECT_EQ(summary["only_a"], 0);  // the tied head is no tensor of its own
  EXPECT_EQ(summary["only_b"], 0);
  EXPECT_EQ(row(json, "backbone.norm_f.weight")["status"], "same");
  const Json whole = report("q");
  int compared = 0;
  for (const Json& layer : whole["layers"]) {
    const auto name = layer["name"].get<std::string>();
    const Json entry = row(json, layer["role"] == "linear" ? name + ".weight" : name);
    EXPECT_EQ(entry["status"], "changed");
    EXPECT_EQ(entry["bits_a"], 16.0);
    EXPECT_EQ(entry["bits_b"], 8.0);
    // Rotated weights too: an orthogonal map changes no norm, and it is undone.
    EXPECT_NEAR(entry["sqnr_db"].get<double>(), layer["weight_sqnr_db"].get<double>(), 0.01) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 28);
  EXPECT_EQ(row(json, "backbone.layers.1.mixer.out_proj.weight")["rewrite_b"], "hadamard(256)");
  EXPECT_TRUE(row(json, "backbone.layers.1.mixer.in_proj.weight")["rewrite_b"].is_null());
}

TEST_F(Diff, SmoothedAndRotatedTransformerIsComparedInTheSourcesTerms) {
  const std::string llama = PTQ_TEST_DATA "/llama-1m";
  run_well(Words{llama, "--method", "duquant", "--bits", "w8a8", "-o", "d"} + small_);
  const Json json = run_json({"diff", llama, "d"});
  EXPECT_EQ(json["summary"]["same"], 2);  // the embedding and the final norm
  for (const Json& entry : json["tensors"]) {
    if (entry["status"] == "same") continue;
    EXPECT_LT(entry["relative_error"].get<double>(), 0.03) << entry["name"];
  }
  const auto values = row(json, "model.layers.0.self_attn.v_proj.weight")["rewrite_b"].get<std::string>();
  EXPECT_EQ(values.find("smooth, hadamard("), 0U) << values;
  EXPECT_NE(values.find("smoothed rows"), std::string::npos) << values;
  EXPECT_EQ(row(json, "model.layers.0.input_layernorm.weight")["rewrite_b"], "smoothed rows");
  const ProcessResult text = run_well({"diff", llama, "d", "--quiet"});
  EXPECT_NE(text.out.find("undone in B: smooth, "), std::string::npos) << text.out;
  EXPECT_EQ(text.err, "");
}

TEST_F(Diff, ChangedRenamedAndReshapedTensorsAreTold) {
  testing::TinyMamba tiny;
  directory_.write("a.safetensors", tiny.bytes());
  const std::string mixer = "backbone.layers.0.mixer.";
  tiny.values[mixer + "D"][0] += 1;
  tiny.shapes[mixer + "A_log"] = {2, 8};
  tiny.shapes["extra"] = tiny.shapes["backbone.norm_f.weight"];
  tiny.values["extra"] = tiny.values["backbone.norm_f.weight"];
  tiny.values.erase("backbone.norm_f.weight");
  directory_.write("b.safetensors", tiny.bytes());
  const Json json = run_json({"diff", "a.safetensors", "b.safetensors"});
  EXPECT_EQ(row(json, mixer + "D")["status"], "changed");
  EXPECT_NEAR(row(json, mixer + "D")["max_abs_error"].get<double>(), 1, 1e-6);
  EXPECT_EQ(row(json, mixer + "A_log")["status"], "other shape");
  EXPECT_EQ(row(json, "extra")["status"], "only b");
  EXPECT_EQ(row(json, "backbone.norm_f.weight")["status"], "only a");
  EXPECT_EQ(row(json, mixer + "conv1d.bias")["status"], "same");
  EXPECT_EQ(json["summary"]["worst_tensor"], mixer + "D");
  const ProcessResult text = run_well({"diff", "a.safetensors", "b.safetensors"});
  EXPECT_NE(text.out.find("1 changed, 1 of another shape, 1 in A alone, 1 in B alone"), std::string::npos)
      << text.out;
}

TEST_F(Diff, NaNIsAChangeWithoutANumber) {
  testing::TinyMamba tiny;
  directory_.write("a.safetensors", tiny.bytes());
  tiny.values["backbone.norm_f.weight"][1] = std::nanf("");
  directory_.write("b.safetensors", tiny.bytes());
  const Json entry = row(run_json({"diff", "a.safetensors", "b.safetensors"}), "backbone.norm_f.weight");
  EXPECT_EQ(entry["status"], "changed");
  EXPECT_TRUE(entry["relative_error"].is_null());
  EXPECT_TRUE(entry["max_abs_error"].is_null());
}

TEST_F(Diff, ReportsAreComparedLayerByLayer) {
  quantize({"--method", "rtn", "--bits", "w4a16"}, "a");
  quantize({"--method", "rtn", "--bits", "w8a16"}, "b");
  const Json json = run_json({"diff", "a/report.json", "b"});
  EXPECT_EQ(json["kind"], "reports");
  EXPECT_GT(json["summary"]["worst_change_db"].get<double>(), 10);
  EXPECT_EQ(json["layers"][0]["bits_a"], 4.0);
  EXPECT_EQ(json["layers"][0]["bits_b"], 8.0);
  const ProcessResult text = run_well({"diff", "a/report.json", "b/report.json"});
  EXPECT_NE(text.out.find("perplexity, quantized"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("/bits: \"w4a16\" -> \"w8a16\""), std::string::npos) << text.out;
}

TEST_F(Diff, WrongInputsAreErrors) {
  expect_error({"diff", model_}, 2, {"B"});
  expect_error({"diff", model_, "none"}, 1, {"none"});
  directory_.write("r.json", R"({"schema_version": 1})");
  expect_error({"diff", "r.json", model_}, 2, {"is no report", "two reports, or two checkpoints"});
  directory_.write("bad.safetensors", "nonsense");
  expect_error({"diff", model_, "bad.safetensors"}, 1, {"bad.safetensors"});
}

}  // namespace
}  // namespace ptq
