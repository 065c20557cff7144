// The numbering of clusters is that of scikit-learn's AgglomerativeClustering and Python's heapq, which the
// authors call: only with it do the orders agree with theirs.
#include "ptq/solve/head_clusters.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ptq {
namespace {

constexpr int64_t kClusters = 4;
constexpr int kMostRounds = 300;  // of k-means

using Row = std::vector<double>;

double squared_distance(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// Two nodes of a dendrogram that become one, the smaller number first. Leaves are 0 to n - 1, the k-th merge
// makes node n + k.
struct Merge {
  int64_t first, second;
};

// Ward's method: the two clusters are merged whose union adds least to the sum of squared distances from
// cluster means.
std::vector<Merge> ward(const std::vector<Row>& points) {
  struct Node {
    int64_t id;
    double size;
    Row mean;
  };
  std::vector<Node> nodes;
  for (const Row& point : points) nodes.push_back({static_cast<int64_t>(nodes.size()), 1, point});
  std::vector<Merge> merges;
  auto next = static_cast<int64_t>(points.size());
  while (nodes.size() > 1) {
    size_t best_a = 0, best_b = 1;
    double least = INFINITY;
    for (size_t a = 0; a < nodes.size(); ++a) {
      for (size_t b = a + 1; b < nodes.size(); ++b) {
        const double sizes = nodes[a].size * nodes[b].size / (nodes[a].size + nodes[b].size);
        const double added = sizes * squared_distance(nodes[a].mean, nodes[b].mean);
        if (added >= least) continue;
        least = added;
        best_a = a;
        best_b = b;
      }
    }
    Node& a = nodes[best_a];
    const Node& b = nodes[best_b];
    merges.push_back({std::min(a.id, b.id), std::max(a.id, b.id)});
    for (size_t i = 0; i < a.mean.size(); ++i)
      a.mean[i] = (a.size * a.mean[i] + b.size * b.mean[i]) / (a.size + b.size);
    a.size += b.size;
    a.id = next++;
    nodes.erase(nodes.begin() + static_cast<std::ptrdiff_t>(best_b));
  }
  return merges;
}

// A heap of Python's heapq with the largest number at its front: where each stands afterwards is a label.
class Heap {
 public:
  explicit Heap(int64_t first) : items_{first} {}

  int64_t front() const { return items_.front(); }
  void push(int64_t item) {
    items_.push_back(item);
    move_up(items_.size() - 1);
  }
  // The front goes, `item` comes.
  void replace_front(int64_t item) {
    size_t place = 0;
    for (size_t child = 1; child < items_.size(); child = 2 * place + 1) {  // larger children up to a leaf
      if (child + 1 < items_.size() && items_[child + 1] >= items_[child]) ++child;
      items_[place] = items_[child];
      place = child;
    }
    items_[place] = item;
    move_up(place);
  }
  const std::vector<int64_t>& items() const { return items_; }

 private:
  void move_up(size_t place) {
    while (place > 0 && items_[place] > items_[(place - 1) / 2]) {
      std::swap(items_[place], items_[(place - 1) / 2]);
      place = (place - 1) / 2;
    }
  }

  std::vector<int64_t> items_;
};

// The label of each point when the dendrogram is cut into `clusters`.
std::vector<int64_t> cut(const std::vector<Merge>& merges, int64_t points, int64_t clusters) {
  Heap heap(points + static_cast<int64_t>(merges.size()) - 1);
  for (int64_t i = 1; i < clusters; ++i) {
    const Merge& split = merges[static_cast<size_t>(heap.front() - points)];
    heap.push(split.first);
    heap.replace_front(split.second);
  }
  std::vector<int64_t> labels(static_cast<size_t>(points));
  for (size_t label = 0; label < heap.items().size(); ++label) {
    std::vector<int64_t> below = {heap.items()[label]};
    while (!below.empty()) {
      const int64_t node = below.back();
      below.pop_back();
      if (node < points) {
        labels[static_cast<size_t>(node)] = static_cast<int64_t>(label);
        continue;
      }
      const Merge& merge = merges[static_cast<size_t>(node - points)];
      below.insert(below.end(), {merge.first, merge.second});
    }
  }
  return labels;
}

// Lloyd's k-means of points in ascending order (each coordinate of one is at least that of the one before),
// from centers evenly spaced among them: how many points each cluster has. Clusters are ranges, because so
// are the nearest of centers in ascending order.
std::vector<int64_t> range_sizes(const std::vector<Row>& points) {
  const auto count = static_cast<int64_t>(points.size());
  const int64_t clusters = std::min(kClusters, count);
  std::vector<Row> centers;
  for (int64_t c = 0; c < clusters; ++c) centers.push_back(points[static_cast<size_t>(c * count / clusters)]);
  std::vector<int64_t> labels, sizes;
  for (int round = 0; round < kMostRounds; ++round) {
    std::vector<int64_t> nearest;
    for (const Row& point : points) {
      int64_t best = 0;
      for (int64_t c = 1; c < clusters; ++c) {
        if (squared_distance(point, centers[static_cast<size_t>(c)]) <
            squared_distance(point, centers[static_cast<size_t>(best)]))
          best = c;
      }
      nearest.push_back(best);
    }
    if (nearest == labels) break;
    labels = nearest;
    sizes.assign(static_cast<size_t>(clusters), 0);
    std::vector<Row> sums(static_cast<size_t>(clusters), Row(points.front().size(), 0));
    for (size_t i = 0; i < points.size(); ++i) {
      const auto label = static_cast<size_t>(labels[i]);
      ++sizes[label];
      for (size_t k = 0; k < points[i].size(); ++k) sums[label][k] += points[i][k];
    }
    for (size_t c = 0; c < sums.size(); ++c) {
      if (sizes[c] == 0) continue;  // equal points: their center stays
      for (size_t k = 0; k < sums[c].size(); ++k) centers[c][k] = sums[c][k] / static_cast<double>(sizes[c]);
    }
  }
  return sizes;
}

// Of a group's heads: levels sorted, divided by their norm.
std::vector<Row> sorted_heads(const Tensor& level) {
  const Tensor sorted = std::get<0>(at::sort(level, /*dim=*/1));
  const Tensor shape = sorted / sorted.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-30);
  std::vector<Row> rows;
  for (int64_t h = 0; h < shape.size(0); ++h) {
    const double* values = shape[h].const_data_ptr<double>();
    rows.emplace_back(values, values + shape.size(1));
  }
  return rows;
}

std::vector<HeadCluster> cluster_group(const std::vector<Row>& heads, ClusterFeatures features,
                                       std::vector<int64_t>& order) {
  const auto count = static_cast<int64_t>(heads.size());
  const int64_t clusters = std::min(kClusters, count);
  const std::vector<int64_t> labels = cut(ward(heads), count, clusters);
  order.resize(heads.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int64_t head) { return labels[static_cast<size_t>(head)]; });
  std::vector<HeadCluster> result;
  size_t first = 0;
  for (int64_t label = 0; label < clusters; ++label) {
    const auto members = static_cast<size_t>(std::ranges::count(labels, label));
    std::vector<Row> points(heads.front().size());
    for (size_t h = first; h < first + members; ++h) {
      const Row& head = heads[features == ClusterFeatures::kMembers ? static_cast<size_t>(order[h]) : h];
      for (size_t c = 0; c < points.size(); ++c) points[c].push_back(head[c]);
    }
    result.push_back({static_cast<int64_t>(members), range_sizes(points)});
    first += members;
  }
  return result;
}

}  // namespace

HeadClusters cluster_heads(const Tensor& level, int64_t heads, int64_t groups, ClusterFeatures features) {
  const Tensor levels = level.to(at::kCPU, at::kDouble).reshape({groups, heads / groups, -1}).contiguous();
  const Tensor places =
      levels.argsort(/*stable=*/true, /*dim=*/2);  // [groups, heads of one, channels of one]
  HeadClusters result;
  std::vector<Tensor> head_order, channel_order;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<int64_t> order;
    result.groups.push_back(cluster_group(sorted_heads(levels[g]), features, order));
    const Tensor local = at::tensor(order, at::kLong);
    head_order.push_back(local + g * (heads / groups));
    const Tensor first = head_order.back().unsqueeze(1) * levels.size(2);  // channel of each head
    channel_order.push_back((places[g].index_select(0, local) + first).flatten());
  }
  result.head_order = at::cat(head_order);
  result.channel_order = at::cat(channel_order);
  return result;
}

Tensor HeadClusters::cluster_of_channel() const {
  std::vector<int64_t> numbers;
  int64_t next = 0;
  for (const std::vector<HeadCluster>& group : groups) {
    for (const HeadCluster& cluster : group) {
      for (int64_t head = 0; head < cluster.heads; ++head) {
        int64_t number = next;
        for (const int64_t channels : cluster.channels)
          numbers.insert(numbers.end(), static_cast<size_t>(channels), number++);
      }
      next += static_cast<int64_t>(cluster.channels.size());
    }
  }
  return at::empty_like(channel_order).index_copy_(0, channel_order, at::tensor(numbers, at::kLong));
}

}  // namespace ptq
