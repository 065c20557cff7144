#include "model/moe_reader.h"

namespace ptq {

int64_t read_expert_count(LayoutReader& reader, const std::string& router, int64_t chosen) {
  const int64_t count = reader.rows(router + ".weight");
  expect_equal(reader.fields, {"num_experts", "num_local_experts", "n_routed_experts"}, count);
  if (chosen <= count) return count;
  throw Error("config.json: num_experts_per_tok", "is " + std::to_string(chosen) + ", and " + router +
                                                      " chooses among " + std::to_string(count) + " experts");
}

MoeLayout read_moe(DecoderReader& reader, const std::string& prefix, const std::string& router,
                   const ExpertNames& names, int64_t chosen, const char* size_key) {
  MoeLayout moe{.prefix = prefix, .d_model = reader.hidden, .router = {.name = router, .chosen = chosen}};
  const int64_t count = read_expert_count(reader, router, chosen);
  const std::string first = prefix + ".experts.0." + names.up + ".weight";
  const int64_t d_inner = reader.rows(first);
  expect_equal(reader.fields, {size_key}, d_inner);
  for (int64_t e = 0; e < count; ++e) {
    moe.experts.push_back({.prefix = prefix + ".experts." + std::to_string(e),
                           .d_model = reader.hidden,
                           .d_inner = d_inner,
                           .f = reader.f,
                           .gate = names.gate,
                           .up = names.up,
                           .down = names.down});
  }
  return moe;
}

}  // namespace ptq
