#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace ptq {
namespace {

constexpr int64_t kQueriesAtOnce = 512;

Tensor fused(const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
             bool causal, const Scores& scores) {
  return at::scaled_dot_product_attention(q, k, v, mask, /*dropout_p=*/0, causal, scores.scale,
                                          /*enable_gqa=*/q.size(1) != k.size(1))
      .transpose(1, 2);
}

// The fused kernel knows no softcap. `mask` [queries, keys] is true where a key is seen.
Tensor capped(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Scores& scores) {
  const int64_t together = q.size(1) / k.size(1);
  const double scale = scores.scale.value_or(1 / std::sqrt(static_cast<double>(q.size(3))));
  const Tensor queries = q.unflatten(1, {k.size(1), together});  // [batch, kv_heads, together, length, D]
  Tensor score = at::matmul(queries, k.unsqueeze(2).transpose(-1, -2)).mul_(scale / scores.softcap);
  score.tanh_()
      .mul_(scores.softcap)
      .masked_fill_(mask.logical_not(), -std::numeric_limits<float>::infinity());
  return at::matmul(score.softmax(-1), v.unsqueeze(2)).flatten(1, 2).transpose(1, 2);
}

// One query that sees all keys. Heads that share keys become queries of one head, so keys are read once.
Tensor attend_one(const Tensor& q, const Tensor& k, const Tensor& v, const Scores& scores) {
  const int64_t batch = q.size(0), heads = q.size(1), width = q.size(3);
  const Tensor grouped = q.reshape({batch, k.size(1), heads / k.size(1), width});
  return at::scaled_dot_product_attention(grouped, k, v, {}, 0, false, scores.scale)
      .reshape({batch, 1, heads, width});
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

Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Scores& scores) {
  const int64_t length = q.size(2), total = k.size(2), past = total - length, window = scores.window;
  const bool binds = window != 0 && total > window, is_capped = scores.softcap != 0;
  if (length == 1 && !is_capped) {
    const int64_t first = binds ? total - window : 0;
    return attend_one(q, k.slice(2, first), v.slice(2, first), scores);
  }
  if (past == 0 && !binds && !is_capped) return fused(q, k, v, std::nullopt, /*causal=*/true, scores);
  std::vector<Tensor> parts;
  for (int64_t begin = 0; begin < length; begin += kQueriesAtOnce) {
    const int64_t end = std::min(length, begin + kQueriesAtOnce);
    const int64_t first = binds ? std::max<int64_t>(0, past + begin - window + 1) : 0;
    const int64_t last = past + end;
    const Tensor mask =
        visible(past + begin, end - begin, first, last - first, binds ? window : 0, q.device());
    const Tensor queries = q.slice(2, begin, end), keys = k.slice(2, first, last);
    const Tensor values = v.slice(2, first, last);
    parts.push_back(is_capped ? capped(queries, keys, values, mask, scores)
                              : fused(queries, keys, values, mask, false, scores));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
}

}  // namespace ptq
