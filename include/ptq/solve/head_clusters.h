// Sorting and clustering of the heads of a Mamba-2's scan and of their channels, for one scale a cluster:
// Quamba2 (arXiv 2503.22879, section 4.2).
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace ptq {

using at::Tensor;

// What channels of a cluster of heads are clustered by.
enum class ClusterFeatures {
  kMembers,      // their levels in the cluster's heads
  kAsPublished,  // in as many heads of the group, taken before the heads were put in order (the authors' code)
};

// Heads of a group with levels of one kind.
struct HeadCluster {
  int64_t heads = 0;
  std::vector<int64_t> channels;  // how many of a head's channels, in ascending order, share a scale
};

struct HeadClusters {
  Tensor head_order;                             // [heads] int64: which head stands at each place
  Tensor channel_order;                          // [heads * channels of one] int64
  std::vector<std::vector<HeadCluster>> groups;  // of each group, in order

  // The number of each channel's cluster, [heads * channels of one] int64, as the channels lie before they
  // are put in order; clusters count up through groups, heads and channels.
  Tensor cluster_of_channel() const;
};

// `level` [heads * channels of one]: how large each channel is. In each head channels are sorted by it. In
// each group of consecutive heads Ward's method makes at most four clusters of heads, each of which has at
// most four ranges of channels by k-means. A stable order: equal ones stay as they were.
HeadClusters cluster_heads(const Tensor& level, int64_t heads, int64_t groups, ClusterFeatures features);

}  // namespace ptq
