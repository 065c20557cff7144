#include "ptq/report/read_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/expect_error.h"
#include "base/temp_directory.h"
#include "report/sample_report.h"

namespace ptq {
namespace {

Json with(const char* pointer, const Json& value) {
  Json json = to_json(full_report());
  json[Json::json_pointer(pointer)] = value;
  return json;
}

Json without(const char* key) {
  Json json = to_json(full_report());
  json.erase(key);
  return json;
}

// A field that is not read would have the value of the default.
TEST(ReadReport, SampleHasAnotherValueThanTheDefaultInEveryField) {
  Report defaults;
  defaults.layers = {LayerRow()};
  defaults.layers[0].correction.emplace().better_base.emplace();
  defaults.sites = {SiteRow()};
  defaults.blocks = {BlockRow()};
  defaults.fallbacks = defaults.decisions = {Remark()};
  defaults.quality = Quality();
  defaults.loads_in = {LoadsIn()};
  defaults.routing = {RoutingRow()};
  const Json json = to_json(filled_report());
  Json leaves = to_json(defaults).flatten();
  leaves.erase("/schema_version");
  for (const auto& [pointer, value] : leaves.items())
    EXPECT_NE(json.at(Json::json_pointer(pointer)), value) << pointer;
}

TEST(ReadReport, GivesBackWhatWasWritten) {
  const Json json = to_json(filled_report());
  const StoredReport stored = parse_report(json, "r");
  EXPECT_EQ(stored.json, json);
  // Shares of shares are the shares.
  EXPECT_EQ(to_json(stored.report), json);
}

TEST(ReadReport, AbsentAndNullValuesAreEmpty) {
  EXPECT_FALSE(parse_report(with("/quality", nullptr), "r").report.quality);
  EXPECT_FALSE(parse_report(without("quality"), "r").report.quality);
  EXPECT_TRUE(std::isnan(parse_report(with("/quality/mean_kl", nullptr), "r").report.quality->mean_kl));
  EXPECT_TRUE(parse_report(without("layers"), "r").report.layers.empty());
  EXPECT_FALSE(parse_report(with("/layers/0/output_sqnr_db", nullptr), "r").report.layers[0].output_sqnr_db);
}

TEST(ReadReport, KeyOfALaterProgramIsLeftAlone) {
  EXPECT_EQ(parse_report(with("/sites/0/kurtosis", 3), "r").report.sites.size(), 2U);
}

TEST(ReadReport, OtherSchemaVersionSaysWhatToDo) {
  const auto message = [](const Json& json) {
    try {
      parse_report(json, "r.json");
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const std::string later = message(with("/schema_version", 2));
  EXPECT_NE(later.find("r.json: has schema version 2; this program reads version 1"), std::string::npos)
      << later;
  EXPECT_NE(later.find("try: quantize 1 or a later one"), std::string::npos) << later;
  EXPECT_NE(message(with("/schema_version", 0)).find("quantize the model again"), std::string::npos);
  EXPECT_NE(message(Json::object()).find("not a report of quantize"), std::string::npos);
  EXPECT_NE(message(Json::array()).find("expected an object"), std::string::npos);
}

TEST(ReadReport, WrongTypesAreNamed) {
  const auto refused = [](const char* pointer, const Json& value, const std::string& place) {
    EXPECT_ERROR(parse_report(with(pointer, value), "r"), ExitCode::kFailed, place);
  };
  refused("/layers/1/output_sqnr_db", "20", "r.layers[1].output_sqnr_db: expected a number, found string");
  refused("/layers/0/shape", {1.5}, "r.layers[0].shape");
  refused("/layers/0", 3, "r.layers[0]: expected an object, found number");
  refused("/layers", Json::object(), "r.layers: expected an array, found object");
  refused("/layers/0/correction", {{"rank", "x"}}, "r.layers[0].correction.rank");
  refused("/sites/0/peak_before", true, "r.sites[0].peak_before");
  refused("/blocks/0/index", 1e300, "r.blocks[0].index: expected an integer");
  refused("/fallbacks", {{{"where", 3}}}, "r.fallbacks[0].where");
  refused("/quality/tokens", "many", "r.quality.tokens");
  refused("/output/bytes", 1e40, "r.output.bytes");
  refused("/output/files/x", "big", "r.output.files.x");
  refused("/time_ms/write", "x", "r.time_ms.write");
  refused("/source/bytes", 1e300, "r.source.bytes");
  refused("/source/files/m.pt", 1, "r.source.files.m.pt");
  refused("/program/version", 1, "r.program.version");
  refused("/recipe/steps", {1}, "r.recipe.steps[0]");
  refused("/calibration/tokens", "x", "r.calibration.tokens");
  refused("/calibration/seed", 0.5, "r.calibration.seed: expected an integer, found 0.5");
  refused("/warnings", {1}, "r.warnings: expected strings, found number");
}

TEST(ReadReport, SeedMayHaveAllBits) {
  const uint64_t seed = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(parse_report(with("/calibration/seed", seed), "r").report.calibration["seed"], seed);
}

TEST(ReadReport, TwoLayersOfOneNameAreAnError) {
  EXPECT_ERROR(parse_report(with("/layers/1/name", "l.in"), "r"), ExitCode::kFailed,
               "r.layers[1]: a second layer of the name \"l.in\"");
}

TEST(ReadReport, ControlCharactersInTextBecomeBlanks) {
  const StoredReport stored = parse_report(with("/layers/0/name", "a\n::error::\x1b[2J"), "r");
  EXPECT_EQ(stored.report.layers[0].name, "a ::error:: [2J");
  EXPECT_EQ(stored.json["layers"][0]["name"], "a ::error:: [2J");
  EXPECT_EQ(parse_report(with("/time_ms/a\nb", 1), "r").report.time_ms.back().first, "a b");
}

TEST(ReadReport, DirectoryStandsForItsReport) {
  const TempDirectory directory;
  EXPECT_ERROR(read_report(directory.path()), ExitCode::kFailed, "has no report.json");
  directory.write("report.json", to_json(full_report()).dump());
  EXPECT_EQ(read_report(directory.path()).path, directory / "report.json");
  EXPECT_EQ(read_report(directory / "report.json").report.layers.size(), 3U);
  directory.write("half.json", to_json(full_report()).dump().substr(0, 500));
  EXPECT_ERROR(read_report(directory / "half.json"), ExitCode::kFailed, "half.json: not valid JSON");
  EXPECT_ERROR(read_report(directory / "none.json"), ExitCode::kFailed, "none.json: cannot open");
}

}  // namespace
}  // namespace ptq
