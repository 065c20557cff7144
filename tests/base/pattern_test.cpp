#include "ptq/base/pattern.h"

#include <gtest/gtest.h>

namespace ptq {
namespace {

TEST(Pattern, PatternsAreThoseOfTheShell) {
  EXPECT_TRUE(matches_pattern("*.out_proj", "a.0.out_proj"));
  EXPECT_TRUE(matches_pattern("a.?.b", "a.0.b"));
  EXPECT_FALSE(matches_pattern("out_proj", "a.out_proj"));
}

}  // namespace
}  // namespace ptq
