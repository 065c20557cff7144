#include "model/attention.h"

#include <algorithm>
#include <vector>

namespace ptq {
namespace {

constexpr int64_t kQueriesAtOnce = 512;

Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
             bool causal) {
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0, causal, /*scale=*/std::nullopt,
                                          /*enable_gqa=*/q.size(1) != k.size(1))
      .transpose(1, 2);
}

// One query that sees all keys. Heads that share keys become queries of one head, so keys are read once.
Tensor attend_one(const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t batch = q.size(0), heads = q.size(1), width = q.size(3);
  const Tensor grouped = q.reshape({batch, k.size(1), heads / k.size(1), width});
  return at::scaled_dot_product_attention(grouped, k, v).reshape({batch, 1, heads, width});
}

// [queries, keys]: whether query position first_query + i sees key position first_key + j.
Tensor visible(int64_t first_query, int64_t queries, int64_t first_key, int64_t keys, int64_t window,
               at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const Tensor query = at::arange(first_query, first_query + queries, options).unsqueeze(1);
  const Tensor key = at::arange(first_key, first_key + keys, options);
  const Tensor before = key <= query;
  return window == 0 ? before : before.logical_and(key > query - window);
}

}  // namespace

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  const int64_t length = q.size(2), total = k.size(2), past = total - length;
  const bool binds = window != 0 && total > window;
  if (length == 1) {
    const int64_t first = binds ? total - window : 0;
    return attend_one(q, k.slice(2, first), v.slice(2, first));
  }
  if (past == 0 && !binds) return fused(q, k, v, std::nullopt, /*causal=*/true);
  std::vector<Tensor> parts;
  for (int64_t begin = 0; begin < length; begin += kQueriesAtOnce) {
    const int64_t end = std::min(length, begin + kQueriesAtOnce);
    const int64_t first = binds ? std::max<int64_t>(0, past + begin - window + 1) : 0;
    const int64_t last = past + end;
    const Tensor mask =
        visible(past + begin, end - begin, first, last - first, binds ? window : 0, q.device());
    parts.push_back(
        fused(q.slice(2, begin, end), k.slice(2, first, last), v.slice(2, first, last), mask, false));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
}

}  // namespace ptq
