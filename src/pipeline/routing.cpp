#include "pipeline/routing.h"

#include <algorithm>

#include "ptq/calibration/stream.h"

namespace ptq {
namespace {

constexpr int64_t kMeasuredTokens = 2048;

// What arrives at a router.
class RouterInput : public Observer {
 public:
  void observe(const Site& site, const Tensor& x) override {
    if (site.kind == kRouterInput) values = x.clone();
  }
  Tensor values;
};

const Part* mixture_of(Sublayer& sublayer) {
  for (Branch& branch : sublayer.branches) {
    for (const Site* site : branch.part->sites()) {
      if (site->routed) return branch.part.get();
    }
  }
  return nullptr;
}

// Tokens that an observer is shown for every expert besides those that go there (Site::routed).
int64_t drawn_tokens(int64_t windows, int64_t length) {
  if (windows == 0) return 0;
  const int64_t each = windows_per_batch(length);
  int64_t drawn = 0;
  for (int64_t begin = 0; begin < windows; begin += each) {
    const int64_t tokens = std::min(each, windows - begin) * length;
    drawn += (tokens + kDrawnOneIn - 1) / kDrawnOneIn;
  }
  return drawn;
}

// Moves `hidden` past the sublayer. Returns which experts each token went to; undefined if it has none.
Tensor advance_and_choose(Sublayer& sublayer, Tensor& hidden) {
  const Part* const mixture = mixture_of(sublayer);
  RouterInput seen;
  hidden = sublayer.forward(hidden, nullptr, mixture != nullptr ? &seen : nullptr);
  return mixture != nullptr ? mixture->chosen_experts(seen.values) : Tensor();
}

}  // namespace

void count_routed(Sublayer& sublayer, const Statistics& statistics, int64_t windows, int64_t length,
                  Remarks& remarks, Report& report) {
  if (mixture_of(sublayer) == nullptr) return;
  RoutingRow row{.name = sublayer.prefix, .calibrated = {}, .changed = {}};
  for (const Linear* linear : sublayer.linears()) {
    const Site& site = sublayer.site(linear->site);
    const auto measured = statistics.find(site.name);
    if (!site.routed || measured == statistics.end() || measured->second.tokens == 0) continue;
    const int64_t tokens = measured->second.tokens - drawn_tokens(windows, length);
    const auto expert = std::to_string(row.calibrated.size());
    row.calibrated.push_back(tokens);
    if (tokens == 0)
      remarks.fallbacks.push_back({linear->name, "calibrated on other experts' tokens",
                                   "no calibration token goes to expert " + expert});
  }
  report.routing.push_back(std::move(row));
}

void measure_routing(const Model& floats, const Model& quantized, const Tensor& ids, Report& report) {
  if (report.routing.empty()) return;
  const Tensor some = ids.slice(0, 0, std::max<int64_t>(1, kMeasuredTokens / ids.size(1)));
  Tensor before = embed_windows(floats, some), after = embed_windows(quantized, some);
  auto row = report.routing.begin();
  for (int64_t i = 0; i < floats.num_blocks(); ++i) {
    const std::unique_ptr<Block> float_block = floats.load_block(i), block = quantized.load_block(i);
    block->seal({});
    for (size_t s = 0; s < block->sublayers().size(); ++s) {
      const Tensor chosen = advance_and_choose(float_block->sublayers()[s], before);
      const Tensor then = advance_and_choose(block->sublayers()[s], after);
      if (!chosen.defined() || row == report.routing.end()) continue;
      row++->changed = chosen.ne(then).any(1).to(at::kDouble).mean().item<double>();
    }
  }
}

}  // namespace ptq
