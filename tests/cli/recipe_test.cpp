// Recipes: printed, read back, changed by --set; and every file of configs/.
#include "cli/cli.h"

namespace ptq {
namespace {

using Recipes = Cli;

TEST_F(Recipes, PrintedRecipeGivesTheSameBytes) {
  for (const char* method : {"quamba", "rtn", "smoothquant"}) {
    const std::string recipe = directory_.write(
        "r.json", run_well({"--method", method, "--print-recipe", "--samples", "8", "--seq-len", "32"}).out);
    quantize({"--method", method, "--force"}, "a");
    quantize({"--recipe", recipe, "--force"}, "b");
    EXPECT_EQ(weights("a"), weights("b")) << method;
    EXPECT_EQ(directory_.read("a/config.json"), directory_.read("b/config.json")) << method;
  }
}

TEST_F(Recipes, SetChangesMethodOptionsAndFields) {
  const ProcessResult result = run_well({"--method", "quamba", "--print-recipe", "--set",
                                         "quamba.percentile=0.9999", "--set", "seq_len=64", "--skip", "*.x"});
  const Json json = parse_json(result.out, "stdout");
  EXPECT_EQ(json["steps"][2]["percentile"], 0.9999);
  EXPECT_EQ(json["seq_len"], 64);
  EXPECT_EQ(json["skip"], Json({"*.x"}));
}

TEST_F(Recipes, ShortFormIsTheCommandLine) {
  const std::string file = directory_.write(
      "r.json", R"({"method": "quamba", "bits": "w8a8", "quamba": {"percentile": 0.9999}, "samples": 4})");
  const Words same = {"--method", "quamba", "--set", "quamba.percentile=0.9999", "--samples", "4"};
  EXPECT_EQ(run_well({"--recipe", file, "--print-recipe"}).out, run_well(same + Words{"--print-recipe"}).out);
  const ProcessResult changed =
      run_well({"--recipe", file, "--print-recipe", "--set", "quamba.hadamard=false"});
  EXPECT_EQ(parse_json(changed.out, "stdout")["steps"].size(), 4U);
}

TEST_F(Recipes, MethodOptionOfALongFormNamesTheStepsField) {
  const std::string file = directory_.write("r.json", run_well({"--method", "quamba", "--print-recipe"}).out);
  expect_error({"--recipe", file, "--set", "quamba.percentile=1", model_}, 2,
               {"--set quamba.percentile", "try: --set steps.2.percentile=VALUE"});
}

TEST_F(Recipes, MistakesAreWrongUsage) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"method": "quamab"})", "did you mean \"quamba\"?"},
      {R"({"method": "quamba", "quamba": {"percentil": 1}})", "did you mean \"percentile\"?"},
      {R"({"method": "quamba", "quamba": 3})", "expected an object"},
      {R"({"method": "quamba", "bits": "w4a4"})", "w4a8"},
      {R"({"method": "quamba", "sampels": 4})", "did you mean \"samples\"?"},
      {R"({"method": "quamba", "feedback": "maybe"})", "on, off, or feedback.strength=0.5"},
      {R"({"method": "quamba", "feedback": {"strength": 2}})", "it must lie from 0 to 1"},
      {R"({"method": 3})", "expected a string"},
      {R"({"method": "x", "steps": 4})", "expected a list of steps"},
      {R"({"method": "x", "steps": [3]})", "expected an object"},
      {R"({"method": "x", "steps": [{"step": "rtm"}]})", "did you mean \"rtn\"?"},
      {R"({"method": "x", "steps": [{"step": "rtn", "bits": "a"}]})", "expected a number"},
      {R"({"method": "x", "steps": [{"step": "rtn", "bit": 8}]})", "did you mean \"bits\"?"},
      {R"({"method": "x", "steps": [], "skip": {"a": 1}})", "list of strings"},
      {R"({"method": "x", "steps": [], "samples": 1e300})", "integer"},
      {R"([])", "expected an object"},
      {R"({})", "\"steps\""},
  };
  for (const auto& [text, words] : cases) {
    const std::string file = directory_.write("r.json", text);
    expect_error({"--recipe", file, model_, "-o", "q"}, 2, {words, "r.json"});
  }
  expect_error({"--recipe", directory_.write("r.json", "{"), model_}, 1, {"not valid JSON"});
}

TEST_F(Recipes, EveryFileOfConfigsRuns) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(PTQ_CONFIGS)) {
    SCOPED_TRACE(entry.path().string());
    const std::string file = entry.path().string();
    const Json printed = parse_json(run_well({"--recipe", file, "--print-recipe"}).out, "stdout");
    const bool transformer = printed["families"] == Json({"transformer"});
    const std::string model = transformer ? PTQ_TEST_DATA "/llama-1m" : model_;
    run_well(Words{model, "--recipe", file, "--force", "-o", "q", "--quiet"} + small_);
    const Json whole = report("q"), recipe = whole["recipe"];
    const std::string name = entry.path().stem().string();
    EXPECT_EQ(name.find(recipe["method"].get<std::string>()), 0U);
    // The name says the bits of the recipe, or a base stands in their place.
    const auto bits = recipe["bits"].get<std::string>();
    EXPECT_TRUE(bits.empty() ? recipe["base"] != "" : name.ends_with(bits)) << bits;
    int64_t rounded = 0;
    for (const Json& layer : whole["layers"]) rounded += layer["bits"].get<double>() < 16 ? 1 : 0;
    EXPECT_GE(rounded, transformer ? 28 : 12);  // of four layers, but for what bears no 4 bits
    ++count;
  }
  EXPECT_GE(count, 34);
}

}  // namespace
}  // namespace ptq
