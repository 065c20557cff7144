#include "ptq/method/recipe.h"

#include <gtest/gtest.h>

#include "../base/expect_error.h"

namespace ptq {
namespace {

Recipe of_method(const std::string& method, const std::string& bits = "",
                 const std::vector<std::string>& sets = {}) {
  RecipeOptions options;
  options.method = method;
  options.bits = bits;
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

TEST(Recipe, LaterAssignmentsWin) {
  EXPECT_EQ(of_method("rtn", "", {"samples=3", "samples=5"}).samples, 5);
  EXPECT_ERROR(of_method("rtn", "", {"samples=0"}), ExitCode::kUsage, "outside 1");
  EXPECT_ERROR(of_method("rtn", "", {"=0"}), ExitCode::kUsage, "PATH=VALUE");
}

TEST(Recipe, PatternsAreThoseOfTheShell) {
  EXPECT_TRUE(matches_pattern("*.out_proj", "a.0.out_proj"));
  EXPECT_TRUE(matches_pattern("a.?.b", "a.0.b"));
  EXPECT_FALSE(matches_pattern("out_proj", "a.out_proj"));
}

}  // namespace
}  // namespace ptq
