// Two steps that round weights, one after the other, each some of them.
#include <gtest/gtest.h>

#include "../base/expect_error.h"
#include "block_fixture.h"

namespace ptq {
namespace {

const Json kGroups = {{"bits", 4}, {"granularity", "group"}, {"group", 16}};

int bits_of(MambaFixture& fixture, const char* linear) {
  const QuantizedTensor* codes = fixture.linear(linear).weight.quantized();
  return codes == nullptr ? 0 : codes->scheme.bits;
}

TEST(SeveralRoundings, TheRestIsWhatTheFirstLeftInFloatAndTheReportSaysItsBits) {
  for (const char* first : {"rtn", "gptq"}) {
    MambaFixture fixture;
    fixture.apply_all({{first, kGroups}, {"rtn", {{"tensors", "rest"}, {"granularity", "tensor"}}}});
    EXPECT_EQ(bits_of(fixture, "in_proj"), 4);
    EXPECT_EQ(bits_of(fixture, "dt_proj"), 8);
    for (const Weight* weight : fixture.block->sublayers().at(0).weights()) {
      const bool small = weight->role == Role::kConv || weight->role == Role::kDecay;
      EXPECT_TRUE(!small || weight->quantized() != nullptr) << weight->name;
    }
    ASSERT_EQ(fixture.remarks.decisions.size(), 1U);
    EXPECT_TRUE(fixture.remarks.decisions[0].where.ends_with("dt_proj"));
    EXPECT_EQ(fixture.remarks.decisions[0].what, "rounded to 8 bits");
    EXPECT_EQ(fixture.remarks.decisions[0].why, "the architecture allows no fewer than 8 bits here");
  }
}

TEST(SeveralRoundings, SitesSelectTheLinearsAndTheOthersStayFloatAndAreNamed) {
  MambaFixture fixture;
  fixture.apply("gptq", {{"sites", {"in_proj.input"}}});
  EXPECT_EQ(bits_of(fixture, "in_proj"), 8);
  EXPECT_EQ(bits_of(fixture, "x_proj"), 0);
  ASSERT_EQ(fixture.remarks.decisions.size(), 3U);
  for (const Remark& row : fixture.remarks.decisions) {
    EXPECT_EQ(row.what, "kept in float");
    EXPECT_EQ(row.why, "not among the recipe's sites");
  }
  EXPECT_FALSE(fixture.needs("gptq", {{"sites", {"in_proj.input"}}}).contains("ssm.output"));
  EXPECT_ERROR(fixture.check("rtn", {{"sites", "up.input"}}), ExitCode::kUsage, "no activation site");
}

TEST(SeveralRoundings, WhatALaterStepRoundsIsNoLongerSaidToStayFloat) {
  MambaFixture fixture;
  fixture.apply_all({{"rtn", {{"sites", "in_proj.input"}}},
                     {"rtn", {{"bits", 6}, {"sites", {"ssm.x", "dt_proj.input", "ssm.output"}}}}});
  EXPECT_EQ(bits_of(fixture, "in_proj"), 8);
  EXPECT_EQ(bits_of(fixture, "out_proj"), 6);
  ASSERT_EQ(fixture.remarks.decisions.size(), 1U);  // dt_proj bears no fewer than 8
  EXPECT_TRUE(fixture.remarks.decisions[0].where.ends_with("dt_proj"));
  EXPECT_EQ(fixture.remarks.decisions[0].what, "kept in float");
}

TEST(SeveralRoundings, ALinearThatTwoStepsAskForIsAUsageError) {
  MambaFixture fixture;
  EXPECT_ERROR(fixture.apply_all({{"rtn", Json::object()}, {"rtn", {{"sites", "in_proj.input"}}}}),
               ExitCode::kUsage, "is rounded already by an earlier step");
}

}  // namespace
}  // namespace ptq
