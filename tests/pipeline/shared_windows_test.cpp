// How windows are dealt out to processes.
#include "pipeline/shared_windows.h"

#include <gtest/gtest.h>

namespace ptq {
namespace {

Tensor numbered(int64_t windows) {
  return at::arange(windows).view({windows, 1}).expand({windows, 3}).contiguous();
}

TEST(WindowShare, EveryWindowIsCalibratedOnOnceAndTheFirstHoldsOut) {
  for (const int64_t windows : {2, 5, 24, 75}) {
    for (const int size : {1, 2, 3, 8, 11}) {
      for (const int64_t length : {128, 2048}) {
        SCOPED_TRACE(std::to_string(windows) + " windows, " + std::to_string(size) + " processes");
        const WindowSplit split = WindowSplit::of(windows, std::max<int64_t>(1, windows / 8));
        std::vector<Tensor> calibrated;
        int64_t next_batch = 0;
        for (int rank = 0; rank < size; ++rank) {
          const WindowShare share(split, windows, length, rank, size);
          const Tensor own = share.of(numbered(windows));
          EXPECT_EQ(own.size(0), share.split().calibrated + share.split().held_out);
          EXPECT_EQ(share.split().held_out, rank == 0 ? split.held_out : 0);
          if (rank == 0) {
            EXPECT_TRUE(
                own.slice(0, share.split().calibrated).equal(numbered(windows).slice(0, split.calibrated)));
          }
          calibrated.push_back(share.calibrated_of(numbered(windows)));
          const Batches batches = share.batches();
          EXPECT_EQ(batches.windows, split.calibrated);
          EXPECT_EQ(batches.first, next_batch);
          next_batch += Batches::of(share.split().calibrated, length).count;
          // Throws if it does not begin with a lane.
          EXPECT_NO_THROW(LaneSum(batches.count, batches.first));
        }
        EXPECT_EQ(next_batch, Batches::of(split.calibrated, length).count);
        EXPECT_TRUE(at::cat(calibrated).equal(numbered(windows).slice(0, 0, split.calibrated)));
      }
    }
  }
}

TEST(WindowShare, WindowsThatServeForBothAreTheFirsts) {
  const WindowSplit split = WindowSplit::measured_on_calibrated(4);
  const WindowShare first(split, 4, 128, 0, 3), last(split, 4, 128, 2, 3);
  EXPECT_EQ(first.split(), split);
  EXPECT_TRUE(first.of(numbered(4)).equal(numbered(4)));
  EXPECT_EQ(last.of(numbered(4)).size(0), 0);
  EXPECT_EQ(last.split(), (WindowSplit{0, 0}));
}

TEST(WindowShare, OneOfTwoThatIsHeldOutIsNotCalibratedOn) {
  const WindowShare first(WindowSplit::of(2, 1), 2, 128, 0, 2), second(WindowSplit::of(2, 1), 2, 128, 1, 2);
  EXPECT_EQ(first.split().calibrated + second.split().calibrated, 1);
  EXPECT_EQ(first.split().held_out, 1);
}

TEST(WindowShare, OtherProcessesHaveMoreThanTheFirst) {
  for (const int size : {2, 3, 4}) {
    const WindowSplit split = WindowSplit::of(80, 10);
    const WindowShare first(split, 80, 2048, 0, size), last(split, 80, 2048, size - 1, size);
    EXPECT_LT(first.split().calibrated, last.split().calibrated);
  }
}

}  // namespace
}  // namespace ptq
