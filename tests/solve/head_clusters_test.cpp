#include "ptq/solve/head_clusters.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace ptq {
namespace {

using Sizes = std::vector<int64_t>;

std::vector<int64_t> values_of(const Tensor& tensor) {
  return {tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel()};
}

// Heads of a group by the form of their levels: even, one large channel, two, half of them.
Tensor head(int kind, double size) {
  static const std::vector<std::vector<double>> kinds = {{1, 1, 1, 1, 1, 1, 1, 1},
                                                         {1, 20, 1, 1, 1, 1, 1, 1},
                                                         {20, 1, 1, 1, 1, 1, 20, 1},
                                                         {1, 20, 1, 20, 1, 20, 20, 1}};
  return at::tensor(kinds.at(static_cast<size_t>(kind)), at::kDouble) * size;
}

TEST(ClusterHeads, HeadsOfOneFormAreTogetherWhateverTheirSize) {
  const std::vector<int> kinds = {3, 0, 1, 0, 2, 1, 3, 2};
  std::vector<Tensor> heads;
  for (size_t i = 0; i < kinds.size(); ++i) heads.push_back(head(kinds[i], 1.0 + static_cast<double>(i)));
  const HeadClusters clusters = cluster_heads(at::cat(heads), 8, 1, ClusterFeatures::kMembers);
  ASSERT_EQ(clusters.groups.size(), 1U);
  ASSERT_EQ(clusters.groups[0].size(), 4U);
  const std::vector<int64_t> order = values_of(clusters.head_order);
  for (size_t i = 0; i < 8; i += 2) {
    EXPECT_EQ(clusters.groups[0][i / 2].heads, 2);
    EXPECT_EQ(kinds[static_cast<size_t>(order[i])], kinds[static_cast<size_t>(order[i + 1])]);
    EXPECT_LT(order[i], order[i + 1]);  // stable
  }
}

TEST(ClusterHeads, ChannelsOfOneLevelShareACluster) {
  const Tensor level = at::tensor({3.0, 1.0, 100.0, 1.1, 2.9, 30.0, 101.0, 31.0});
  const HeadClusters clusters = cluster_heads(level, 1, 1, ClusterFeatures::kMembers);
  EXPECT_EQ(values_of(clusters.channel_order), Sizes({1, 3, 4, 0, 5, 7, 2, 6}));
  EXPECT_EQ(clusters.groups[0][0].channels, Sizes({2, 2, 2, 2}));
  EXPECT_EQ(values_of(clusters.cluster_of_channel()), Sizes({1, 0, 3, 0, 1, 2, 3, 2}));
}

// Of a group whose heads lie in the order of their clusters both forms are the same.
TEST(ClusterHeads, PublishedFeaturesAreThoseOfOtherHeadsUnlessTheyLieInOrder) {
  std::vector<Tensor> heads;
  for (const int kind : {3, 0, 1, 0, 2, 1, 3, 2}) heads.push_back(head(kind, 1));
  const Tensor mixed = at::cat(heads);
  const auto members = cluster_heads(mixed, 8, 1, ClusterFeatures::kMembers);
  const auto published = cluster_heads(mixed, 8, 1, ClusterFeatures::kAsPublished);
  EXPECT_TRUE(at::equal(members.head_order, published.head_order));
  bool same = true;
  for (size_t i = 0; i < 4; ++i) same &= members.groups[0][i].channels == published.groups[0][i].channels;
  EXPECT_FALSE(same);
  const Tensor ordered = mixed.index_select(0, members.channel_order);
  const auto again = cluster_heads(ordered, 8, 1, ClusterFeatures::kAsPublished);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(again.groups[0][i].channels, members.groups[0][i].channels);
}

TEST(ClusterHeads, OrdersArePermutationsWithinGroups) {
  at::manual_seed(4);
  for (const auto& [heads, groups, channels] :
       {std::array<int64_t, 3>{8, 2, 16}, {6, 3, 5}, {2, 2, 3}, {1, 1, 1}, {24, 1, 2}}) {
    const Tensor level = at::rand({heads * channels});
    const HeadClusters clusters = cluster_heads(level, heads, groups, ClusterFeatures::kAsPublished);
    const int64_t of_group = heads / groups;
    EXPECT_TRUE(at::equal(std::get<0>(clusters.channel_order.sort()), at::arange(heads * channels)));
    for (int64_t g = 0; g < groups; ++g) {
      const Tensor order = clusters.head_order.slice(0, g * of_group, (g + 1) * of_group);
      EXPECT_TRUE(at::equal(std::get<0>(order.sort()), at::arange(g * of_group, (g + 1) * of_group)));
      int64_t counted = 0;
      for (const HeadCluster& cluster : clusters.groups.at(static_cast<size_t>(g))) {
        counted += cluster.heads;
        int64_t sum = 0;
        for (const int64_t size : cluster.channels) sum += size;
        EXPECT_EQ(sum, channels);
      }
      EXPECT_EQ(counted, of_group);
    }
  }
}

TEST(ClusterHeads, SilentHeadsHaveClustersToo) {
  const HeadClusters clusters = cluster_heads(at::zeros({12}), 3, 1, ClusterFeatures::kMembers);
  EXPECT_TRUE(at::equal(std::get<0>(clusters.channel_order.sort()), at::arange(12)));
  EXPECT_EQ(clusters.cluster_of_channel().size(0), 12);
}

}  // namespace
}  // namespace ptq
