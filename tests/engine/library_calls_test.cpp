#include "ptq/engine/library_calls.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ptq/ops/ops.h"

namespace ptq {
namespace {

TEST(LibraryCalls, OperationsAreCountedAndNotWhatTheyCall) {
  const at::Tensor x = at::ones({3, 4});
  EXPECT_EQ(count_library_calls([] {}).count, 0);
  const LibraryCalls calls = count_library_calls([&] {
    const at::Tensor y = at::linear(x, x);  // calls others
    y.add_(1);
  });
  EXPECT_EQ(calls.count, 2);
  EXPECT_GT(calls.seconds, 0);
}

// Its result is allocated.
TEST(LibraryCalls, OwnOperationCountsForWhatItCalls) {
  const at::Tensor x = at::ones({3, 4}), gain = at::ones({4});
  EXPECT_EQ(count_library_calls([&] { ops::rms_norm(x, gain, 1e-5); }).count, 1);
}

}  // namespace
}  // namespace ptq
