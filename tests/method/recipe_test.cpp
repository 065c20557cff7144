#include "ptq/method/recipe.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"

namespace ptq {
namespace {

Recipe of_method(const std::string& method, const std::string& bits = "",
                 const std::vector<std::string>& sets = {}) {
  RecipeOptions options;
  options.method = method;
  (find_method(method).by_base ? options.base : options.bits) = bits;
  options.sets = sets;
  return resolve_recipe(options);
}

TEST(Recipe, EveryMethodAndBitsResolveAndSurviveTheLongForm) {
  for (const MethodEntry& method : methods()) {
    for (const std::string& bits : method.bits) {
      const Recipe recipe = of_method(method.name, bits);
      EXPECT_FALSE(recipe.steps.empty());
      EXPECT_EQ(recipe.purpose, method.purpose);
      EXPECT_EQ(read_recipe(recipe.to_json(), "again").to_json(), recipe.to_json()) << method.name << bits;
    }
  }
}

TEST(Recipe, EveryDefaultOptionCanBeSetByName) {
  for (const MethodEntry& method : methods()) {
    const Json defaults = method.default_options();
    for (const auto& [key, value] : defaults.items()) {
      const std::string set = std::string(method.name) + "." + key + "=" + value.dump();
      EXPECT_EQ(of_method(method.name, "", {set}).to_json(), of_method(method.name).to_json()) << set;
    }
  }
}

// Of the values that an option's row lists, those that are words or numbers are taken.
TEST(Recipe, EveryWordThatAnOptionListsIsTaken) {
  size_t taken = 0;
  for (const MethodEntry& method : methods()) {
    for (const MethodOption& option : method.options()) {
      EXPECT_FALSE(std::string(option.effect).empty());
      const std::string values = option.values;
      for (size_t begin = 0; begin < values.size();) {
        const size_t end = std::min(values.find(" | ", begin), values.size());
        const std::string value = values.substr(begin, end - begin);
        begin = end + 3;
        if (value.find_first_of(" {[,") != std::string::npos) continue;  // words about values
        const std::string set = std::string(method.name) + "." + option.name + "=" + value;
        EXPECT_NO_THROW(of_method(method.name, "", {set})) << set;
        ++taken;
      }
    }
  }
  EXPECT_GT(taken, 60U);
}

RecipeOptions qera(const std::string& base) {
  RecipeOptions options;
  options.method = "qera";
  options.base = base;
  return options;
}

TEST(Qera, BasesAreRoundingsOfTheirFormat) {
  struct Base {
    const char* name;
    const char* step;
    Json options;
    int64_t rank;
  };
  const Base bases[] = {
      {"mxint3", "rtn", {{"format", "mxint"}, {"bits", 3}}, 64},
      {"gptq:mxint4", "gptq", {{"format", "mxint"}, {"bits", 4}}, 32},
      {"nf4", "rtn", {{"format", "nf4"}}, 32},
      {"int8", "rtn", {{"bits", 8}, {"granularity", "channel"}, {"symmetric", true}}, 32},
      {"gptq:int3-g64-asym",
       "gptq",
       {{"bits", 3}, {"granularity", "group"}, {"group", 64}, {"scales", "plain"}, {"symmetric", false}},
       64}};
  for (const Base& base : bases) {
    const Recipe recipe = resolve_recipe(qera(base.name));
    EXPECT_EQ(recipe.base, base.name);
    EXPECT_EQ(recipe.bits, "");
    ASSERT_EQ(recipe.steps.size(), 2U);
    EXPECT_EQ(recipe.steps[0].name, base.step) << base.name;
    EXPECT_EQ(recipe.steps[0].options, base.options) << base.name;
    EXPECT_EQ(recipe.steps[1].name, "low_rank");
    EXPECT_EQ(recipe.steps[1].options.at("rank"), base.rank) << base.name;
  }
}

TEST(Qera, WrongBasesAreUsageErrors) {
  for (const char* base :
       {"mxint", "mxint9", "int", "int4-g", "int4-g128-", "gptq:nf4", "gptq:", "fp4", "int1"}) {
    EXPECT_ERROR(resolve_recipe(qera(base)), ExitCode::kUsage, base);
  }
  for (const char* base : {"int5", "mxint5", "gptq:mxint5"})
    EXPECT_ERROR(resolve_recipe(qera(base)), ExitCode::kUsage, "5 bits");
  EXPECT_ERROR(resolve_recipe(qera("int4-g4")), ExitCode::kUsage, "4 weights a group");
}

TEST(Qera, RankAndTargetAreShortFormsAndBitsAreRefused) {
  RecipeOptions options = qera("mxint4");
  options.rank = 5;
  EXPECT_EQ(resolve_recipe(options).steps[1].options.at("rank"), 5);
  options.target_bpw = 4.75;
  EXPECT_ERROR(resolve_recipe(options), ExitCode::kUsage, "--target-bpw");
  options.rank = {};
  EXPECT_EQ(resolve_recipe(options).steps[1].options.at("target_bpw"), 4.75);
  options.bits = "w4a16";
  EXPECT_ERROR(resolve_recipe(options), ExitCode::kUsage, "--base");
  options = {};
  options.method = "rtn";
  options.rank = 5;
  EXPECT_ERROR(resolve_recipe(options), ExitCode::kUsage, "--rank");
}

TEST(Qera, WrongOptionsOfTheCorrectionAreUsageErrors) {
  for (const char* set :
       {"qera.variant=exakt", "qera.rank=0", "qera.rank=many", "qera.shrinkage=2", "qera.rounds=0",
        "qera.stored=int4", "qera.target_bpw=-1", "qera.ranks=[3]", "qera.ranks={\"*\": 0}"}) {
    RecipeOptions options = qera("mxint4");
    options.sets = {set};
    EXPECT_ERROR(resolve_recipe(options), ExitCode::kUsage, std::string(set).substr(5, 4));
  }
}

TEST(Recipe, LaterAssignmentsWin) {
  EXPECT_EQ(of_method("rtn", "", {"samples=3", "samples=5"}).samples, 5);
  EXPECT_ERROR(of_method("rtn", "", {"samples=0"}), ExitCode::kUsage, "outside 1");
  EXPECT_ERROR(of_method("rtn", "", {"=0"}), ExitCode::kUsage, "PATH=VALUE");
}

// "smooth rotate zigzag": the names of the steps, in order.
std::string names_of(const Recipe& recipe) {
  std::string names;
  for (const StepConfig& step : recipe.steps) names += (names.empty() ? "" : " ") + step.name;
  return names;
}

Recipe duquant(const std::string& bits, const std::vector<std::string>& options = {}) {
  std::vector<std::string> sets;
  for (const std::string& option : options) sets.push_back("duquant." + option);
  return of_method("duquant", bits, sets);
}

TEST(DuQuantRecipe, AblationsLeaveOutTheirSteps) {
  const std::string rounds = "activations activations activations gptq";
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "smooth rotate zigzag rotate qk_hadamard " + rounds},
      {{"smooth=false"}, "rotate zigzag rotate qk_hadamard " + rounds},
      {{"rotation=none"}, "smooth zigzag qk_hadamard " + rounds},
      {{"second_rotation=false"}, "smooth rotate zigzag qk_hadamard " + rounds},
      {{"permute=false"}, "smooth rotate rotate qk_hadamard " + rounds},
      {{"permute=false", "second_rotation=false"}, "smooth rotate qk_hadamard " + rounds},
      {{"qk_hadamard=false"}, "smooth rotate zigzag rotate " + rounds},
      {{"attention=false"}, "smooth rotate zigzag rotate activations gptq"},
      {{"rounding=rtn"}, "smooth rotate zigzag rotate qk_hadamard activations activations activations rtn"},
      {{"smooth=false", "rotation=none", "permute=false", "attention=false", "rounding=rtn"},
       "activations rtn"}};
  for (const auto& [options, names] : cases) EXPECT_EQ(names_of(duquant("w4a4", options)), names);
}

TEST(DuQuantRecipe, BitsDecideRoundingAndClips) {
  struct Case {
    const char* bits;
    const char* rounding;
    int weights, activations;
    Json clip;
    double activation_clip;
  };
  const Case cases[] = {{"w4a4", "gptq", 4, 4, "search", 0.8},
                        {"w6a6", "gptq", 6, 6, 1, 1},
                        {"w4a8", "gptq", 4, 8, "search", 1},
                        {"w8a8", "rtn", 8, 8, 1, 1}};
  for (const Case& c : cases) {
    const Recipe recipe = duquant(c.bits);
    const StepConfig& rounding = recipe.steps.back();
    EXPECT_EQ(rounding.name, c.rounding) << c.bits;
    EXPECT_EQ(rounding.options.at("bits"), c.weights);
    EXPECT_EQ(rounding.options.at("clip"), c.clip) << c.bits;
    EXPECT_EQ(rounding.options.at("granularity"), "channel");
    EXPECT_EQ(rounding.options.at("symmetric"), false);
    for (const StepConfig& step : recipe.steps) {
      if (step.name != "activations") continue;
      const bool inputs = step.options.at("sites") == "linear_inputs";
      EXPECT_EQ(step.options.at("bits"), c.activations);
      EXPECT_EQ(step.options.at("scales"), "dynamic");
      EXPECT_EQ(step.options.at("symmetric"), false);
      EXPECT_EQ(step.options.at("clip_factor"), inputs ? c.activation_clip : 1) << c.bits;
    }
  }
  EXPECT_EQ(names_of(duquant("w4a16")), "smooth rotate zigzag rotate gptq");
}

TEST(DuQuantRecipe, OptionsReachTheStepsTheyAreFor) {
  struct Case {
    std::vector<std::string> options;
    size_t step;  // smooth rotate zigzag rotate qk_hadamard activations activations activations gptq
    Json expected;
  };
  const Case cases[] = {
      {{}, 0, {{"alpha", 0.6}, {"floor", 0.01}, {"columns", "first"}}},
      {{"alpha=0.4"}, 0, {{"alpha", 0.4}}},
      {{}, 1, {{"kind", "hadamard"}, {"block", "auto"}, {"signs", "none"}, {"seed", 0}}},
      {{"rotation=greedy", "steps=7", "peak=range"},
       1,
       {{"kind", "greedy"}, {"steps", 7}, {"peak", "range"}}},
      {{"rotation=greedy", "steps=7"}, 3, {{"kind", "greedy"}, {"steps", 7}, {"peak", "magnitude"}}},
      {{"rotation=auto"}, 1, {{"weight_bits", 4}, {"activation_bits", 4}, {"clip_factor", 0.8}}},
      {{"rotation=auto", "activation_clip=0.9"}, 3, {{"kind", "auto"}, {"clip_factor", 0.9}}},
      {{"block=64"}, 1, {{"block", 64}}},
      {{"block=64"}, 2, {{"block", 64}}},
      {{"block=64"}, 3, {{"block", 64}}},
      {{"signs=random", "seed=5"}, 1, {{"signs", "random"}, {"seed", 5}}},
      {{"signs=random", "seed=5"}, 3, {{"signs", "none"}, {"seed", 6}}},
      {{}, 6, {{"sites", {"attn.q", "attn.k"}}}},
      {{}, 7, {{"sites", "attn.v"}}},
      {{"activation_clip=0.9"}, 5, {{"clip_factor", 0.9}}},
      {{"activation_clip=0.9"}, 6, {{"clip_factor", 1}}},
      {{"attention_clip=0.9"}, 6, {{"clip_factor", 0.9}}},
      {{"attention_clip=0.9"}, 5, {{"clip_factor", 0.8}}},
      {{"attention_clip=0.9"}, 7, {{"clip_factor", 1}}},
      {{"symmetric_activations=true"}, 5, {{"symmetric", true}}},
      {{"symmetric_activations=true"}, 7, {{"symmetric", true}}},
      {{"symmetric_weights=true"}, 8, {{"symmetric", true}}},
      {{"clip=0.8"}, 8, {{"clip", 0.8}}},
      {{"clip=search", "group=64"}, 8, {{"clip", "search"}, {"granularity", "group"}, {"group", 64}}},
      {{"group=128"}, 8, {{"granularity", "group"}, {"group", 128}}},
      {{"group=0"}, 8, {{"granularity", "channel"}}},
      {{}, 8, {{"moment", "float"}}},
      {{"rounding=gptq", "moment=rounded"}, 8, {{"moment", "rounded"}}}};
  for (const Case& c : cases) {
    const Recipe recipe = duquant("w4a4", c.options);
    ASSERT_EQ(recipe.steps.size(), 9U);
    Json options = recipe.steps[c.step].options;
    const Json before = options;
    options.update(c.expected);
    EXPECT_EQ(options, before) << c.expected;
  }
  EXPECT_EQ(duquant("w8a8", {"rounding=gptq"}).steps.back().name, "gptq");
}

TEST(DuQuantRecipe, ValuesOfWrongTypeOrRangeAreUsageErrorsThatNameThem) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"smooth=1", "smooth"},
      {"alpha=x", "alpha"},
      {"alpha=1.5", "alpha"},
      {"rotation=3", "rotation"},
      {"rotation=helmert", "kind"},
      {"permute=yes", "permute"},
      {"second_rotation=0", "second_rotation"},
      {"block=x", "block"},
      {"block=0", "block"},
      {"block=1.5", "block"},
      {"steps=x", "steps"},
      {"steps=-1", "steps"},
      {"peak=3", "peak"},
      {"peak=top", "peak"},
      {"signs=true", "signs"},
      {"signs=some", "signs"},
      {"seed=x", "seed"},
      {"qk_hadamard=1", "qk_hadamard"},
      {"attention=no", "attention"},
      {"activation_clip=x", "activation_clip"},
      {"activation_clip=0", "clip_factor"},
      {"activation_clip=1.1", "clip_factor"},
      {"attention_clip=x", "attention_clip"},
      {"attention_clip=-1", "clip_factor"},
      {"symmetric_activations=x", "symmetric"},
      {"rounding=4", "rounding"},
      {"rounding=nearest", "nearest"},
      {"clip=best", "clip"},
      {"clip=0", "clip"},
      {"moment=1", "moment"},
      {"moment=half", "moment"},
      {"group=x", "group"},
      {"group=4", "4 weights a group"},
      {"group=-128", "-128 weights a group"},
      {"symmetric_weights=1", "symmetric_weights"},
      {"rotations=none", "rotation"}};
  for (const auto& [option, words] : cases) {
    SCOPED_TRACE(option);
    EXPECT_ERROR(duquant("w4a4", {option}), ExitCode::kUsage, words);
  }
}

TEST(GptqRecipe, GroupsAreForWeightsAloneUnlessAsked) {
  const auto weights = [](const std::string& bits, const std::vector<std::string>& sets = {}) {
    return of_method("gptq", bits, sets).steps.back().options;
  };
  EXPECT_EQ(weights("w4a16").at("group"), 128);
  EXPECT_EQ(weights("w4a16", {"gptq.group=0"}).at("granularity"), "channel");
  EXPECT_EQ(weights("w4a16", {"gptq.group=32"}).at("group"), 32);
  for (const char* bits : {"w8a16", "w4a8", "w8a8", "w6a6", "w4a4"}) {
    EXPECT_EQ(weights(bits).at("granularity"), "channel") << bits;
    EXPECT_EQ(weights(bits, {"gptq.group=64"}).at("granularity"), "group") << bits;
  }
  EXPECT_EQ(weights("w4a16", {"gptq.damping=0.1"}).at("damping"), 0.1);
  EXPECT_EQ(names_of(of_method("gptq", "w4a16")), "gptq");
  EXPECT_EQ(names_of(of_method("gptq", "w4a8")), "activations gptq");
  EXPECT_ERROR(of_method("gptq", "", {"gptq.group=-128"}), ExitCode::kUsage, "-128 weights a group");
  EXPECT_ERROR(of_method("gptq", "", {"gptq.damping=x"}), ExitCode::kUsage, "damping");
  EXPECT_ERROR(of_method("gptq", "", {"gptq.order_by_activation=1"}), ExitCode::kUsage,
               "order_by_activation");
}

TEST(SmoothQuantRecipe, ScalesAreStaticAtEightBitsAndDynamicBelow) {
  for (const char* bits : {"w8a8", "w6a6", "w4a8", "w4a4"}) {
    const Recipe recipe = of_method("smoothquant", bits);
    EXPECT_EQ(names_of(recipe), "smooth rtn activations");
    EXPECT_EQ(recipe.steps[2].options.at("scales"), bits == std::string("w8a8") ? "static" : "dynamic")
        << bits;
  }
  EXPECT_EQ(of_method("smoothquant", "", {"smoothquant.activations=dynamic"}).steps[2].options.at("scales"),
            "dynamic");
  EXPECT_ERROR(of_method("smoothquant", "", {"smoothquant.activations=x"}), ExitCode::kUsage, "scales");
  EXPECT_ERROR(of_method("smoothquant", "", {"smoothquant.alpha=x"}), ExitCode::kUsage, "alpha");
}

TEST(RtnRecipe, ZeroPointsAreForFewerThanEightBitsWithActivations) {
  for (const auto& [bits, symmetric] : std::vector<std::pair<const char*, bool>>{
           {"w8a8", true}, {"w8a16", true}, {"w6a6", false}, {"w4a8", false}, {"w4a4", false}}) {
    const Recipe recipe = of_method("rtn", bits);
    EXPECT_EQ(recipe.steps[0].options.at("symmetric"), symmetric) << bits;
    EXPECT_EQ(recipe.steps[0].options.at("granularity"), "channel") << bits;
  }
  EXPECT_EQ(of_method("rtn", "w4a16").steps[0].options.at("group"), 128);
  EXPECT_ERROR(of_method("rtn", "w4a16", {"rtn.group=4"}), ExitCode::kUsage, "4 weights a group");
}

// The order of steps.
Recipe in_order(const std::vector<Json>& steps) {
  return read_recipe({{"method", "x"}, {"steps", steps}}, "r");
}

const Json kRtn = {{"step", "rtn"}}, kGptq = {{"step", "gptq"}}, kLowRank = {{"step", "low_rank"}},
           kActivations = {{"step", "activations"}, {"scales", "dynamic"}}, kSmooth = {{"step", "smooth"}},
           kRounded = {{"step", "gptq"}, {"moment", "rounded"}};

TEST(RecipeOrder, IsTheOneThatIsGiven) {
  EXPECT_EQ(names_of(in_order({kSmooth, kRtn, kLowRank, kActivations})), "smooth rtn low_rank activations");
  EXPECT_EQ(names_of(in_order({kSmooth, kActivations, kRounded})), "smooth activations gptq");
  EXPECT_EQ(names_of(in_order({kActivations, kRtn})), "activations rtn");
  EXPECT_EQ(names_of(in_order({kRtn, kActivations})), "rtn activations");
}

TEST(RecipeOrder, RewriteAfterARoundingIsAUsageError) {
  EXPECT_ERROR(in_order({kRtn, kSmooth}), ExitCode::kUsage, "r.steps[1] (smooth)");
  EXPECT_ERROR(in_order({kActivations, kSmooth, kRtn}), ExitCode::kUsage, "\"activations\"");
}

TEST(RecipeOrder, WeightsRoundedTwiceAreAUsageError) {
  EXPECT_ERROR(in_order({kRtn, kActivations, kGptq}), ExitCode::kUsage, "r.steps[2] (gptq)");
}

TEST(RecipeOrder, CorrectionOfWhatIsNotRoundedIsAUsageError) {
  EXPECT_ERROR(in_order({kLowRank, kRtn}), ExitCode::kUsage, "r.steps[0] (low_rank)");
  EXPECT_ERROR(in_order({kActivations, kLowRank}), ExitCode::kUsage, "no rounded weight");
}

TEST(RecipeOrder, MomentOfRoundedActivationsThatAreNotRoundedIsAUsageError) {
  EXPECT_ERROR(in_order({kRounded, kActivations}), ExitCode::kUsage, "needs rounded activations");
  EXPECT_ERROR(in_order({kRounded}), ExitCode::kUsage, "needs rounded activations");
}

TEST(RecipeOrder, EveryShippedRecipeHasOneThatCanBe) {
  for (const MethodEntry& method : methods()) {
    for (const std::string& bits : method.bits) {
      RecipeOptions options;
      options.method = method.name;
      (method.by_base ? options.base : options.bits) = bits;
      EXPECT_FALSE(resolve_recipe(options).steps.empty()) << method.name << " " << bits;
    }
  }
}

TEST(Recipe, ASecondRoundingOfWeightsSaysWhich) {
  Json recipe = {{"steps", Json::array({{{"step", "rtn"}}, {{"step", "rtn"}}})}};
  EXPECT_ERROR(read_recipe(recipe, "r"), ExitCode::kUsage, "the weights are rounded already, by \"rtn\"");
  recipe["steps"][1]["sites"] = "all";
  EXPECT_ERROR(read_recipe(recipe, "r"), ExitCode::kUsage, "the weights are rounded already, by \"rtn\"");
  recipe["steps"][1]["sites"] = "rest";
  EXPECT_NO_THROW(read_recipe(recipe, "r"));
  recipe["steps"][1] = {{"step", "rtn"}, {"tensors", "rest"}};
  EXPECT_NO_THROW(read_recipe(recipe, "r"));
}

TEST(QuambaRecipe, BitsAndTheRestDecideTheSteps) {
  const auto steps = [](const std::string& bits, const std::vector<std::string>& sets) {
    return names_of(of_method("quamba", bits, sets));
  };
  EXPECT_EQ(steps("w8a8", {}), "hadamard rtn activations rtn activations");
  EXPECT_EQ(steps("w8a8", {"quamba.rest=float"}), "hadamard rtn activations");
  EXPECT_EQ(steps("w4a8", {}), "hadamard gptq rtn activations activations");
  EXPECT_EQ(steps("w4a8", {"quamba.rest=float"}), "hadamard gptq rtn activations");
  EXPECT_EQ(steps("w4a16", {}), "hadamard gptq rtn");
  EXPECT_EQ(steps("w4a16", {"quamba.state=int8"}), "hadamard gptq rtn activations");
  EXPECT_ERROR(of_method("quamba", "w8a8", {"quamba.rest=int8"}), ExitCode::kUsage, "quamba.rest");
  EXPECT_ERROR(of_method("quamba", "w8a8", {"quamba.state=int4"}), ExitCode::kUsage, "quamba.state");
}

TEST(QuambaRecipe, OptionsThatNothingWouldReadAreRefused) {
  EXPECT_ERROR(of_method("quamba", "w8a8", {"quamba.group=64"}), ExitCode::kUsage, "is for weights of 4");
  EXPECT_ERROR(of_method("quamba", "w4a16", {"quamba.activations=dynamic"}), ExitCode::kUsage,
               "is for activations that are rounded");
  for (const char* set : {"quamba.percentile=1", "quamba.observer=exact", "quamba.clip=percentile_site",
                          "quamba.search_rows=2", "quamba.scales=part"}) {
    EXPECT_ERROR(of_method("quamba", "w4a16", {set}), ExitCode::kUsage, "is for static scales");
    EXPECT_ERROR(of_method("quamba", "w8a8", {"quamba.activations=dynamic", set}), ExitCode::kUsage,
                 "is for static scales");
  }
}

}  // namespace
}  // namespace ptq
