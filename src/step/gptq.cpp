// The step that rounds weights by GPTQ (solve/gptq.cpp), with the second moment of what each site receives.
#include "ptq/solve/gptq.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "step/options.h"
#include "step/step_makers.h"
#include "step/weight_rounding.h"

namespace ptq {
namespace {

class GptqStep : public Step {
 public:
  explicit GptqStep(JsonFields& options)
      : rounding_(options),
        damping_(options.number("damping", 0.01)),
        order_by_activation_(options.boolean("order_by_activation", false)),
        rounded_(choice(options, "moment", false, {{"float", false}, {"rounded", true}})) {
    options.finish();
    if (!rounding_.scheme().is_linear()) {
      throw usage_error(options.path() + ".format", "GPTQ rounds integers and MXINT", "step \"rtn\"");
    }
    if (rounding_.by_part())
      throw usage_error(options.path() + ".granularity", "GPTQ has no scales of parts",
                        "granularity = \"channel\", or step \"rtn\"");
    if (!(damping_ > 0 && damping_ <= 1)) {
      throw usage_error(options.path() + ".damping", std::to_string(damping_) + " is outside (0, 1]");
    }
  }

  void check(const std::vector<Sublayer*>& sublayers) const override { rounding_.check(sublayers); }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    for (const std::string& site : rounding_.sites(sublayer)) {
      if (rounded_) {
        needs[site].samples = rounding_.samples();
      } else {
        needs[site].second_moment = true;
      }
    }
    return needs;
  }

  bool reads_rounded_activations() const override { return rounded_; }

  std::vector<Linear*> linears_to_round(Sublayer& sublayer,
                                        const std::function<bool(const std::string&)>& skip) const override {
    return rounding_.linears(sublayer, skip);
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    std::vector<Task> tasks;
    for (const LinearGroup& group : rounding_.groups(sublayer, context)) {
      if (context.statistics.at(group.site).all_zero()) {
        round_plainly(group.linears, context.remarks);
        continue;
      }
      // Linears with one scale a tensor are rounded one by one; else rows do not depend on each other, and
      // all linears of the site share one decomposition.
      if (rounding_.scheme().granularity == Granularity::kTensor) {
        for (Linear* linear : group.linears) add_tasks({linear}, rounding_.scheme(), 1, tasks);
        continue;
      }
      std::vector<Linear*> as_asked, wide;  // by the form of their scales
      WeightScheme wide_scheme;
      for (Linear* linear : group.linears) {
        const WeightScheme scheme = rounding_.scheme_for(*linear, context.remarks);
        const bool same = scheme == rounding_.scheme();
        if (!same) wide_scheme = scheme;
        (same ? as_asked : wide).push_back(linear);
      }
      add_tasks(as_asked, rounding_.scheme(), context.processes.size(), tasks);
      add_tasks(wide, wide_scheme, context.processes.size(), tasks);
    }
    round(tasks, sublayer, context);
  }

  void plan(Sublayer& sublayer, PlanContext& context) const override {
    const Granularity granularity = rounding_.scheme().granularity;
    const bool together = granularity != Granularity::kTensor;
    const double times = tries();
    for (const LinearGroup& group : rounding_.plan(sublayer, context)) {
      int64_t rows = 0, in = 0;
      for (const Linear* linear : group.linears) {
        const int64_t out = linear->weight.size(0);
        in = linear->weight.size(1);
        rows = together ? rows + out : std::max(rows, out);
        context.cost.operations += times * static_cast<double>(out) * static_cast<double>(in * in);
      }
      const auto n = static_cast<double>(in);
      context.cost.operations += n * n * n / 3;  // the factor
      context.cost.bytes =
          std::max(context.cost.bytes, gptq_bytes(rows, in, gptq_options(), at::get_num_threads()));
    }
  }

 private:
  GptqOptions gptq_options() const {
    GptqOptions options;
    options.damping = damping_;
    options.order_by_activation = order_by_activation_;
    options.search_clips = rounding_.searches_clips();
    return options;
  }

  // Where M is 0 no error costs anything, so GPTQ would leave nothing of the weights.
  void round_plainly(const std::vector<Linear*>& linears, Remarks& remarks) const {
    for (Linear* linear : linears) {
      const Tensor W = linear->weight.values();
      remarks.fallbacks.push_back({linear->name, "rounded to nearest", kNoActivity});
      linear->weight.set(
          round_to_nearest(W, rounding_.scheme_for(*linear, remarks), rounding_.fixed_clip(W)));
    }
  }

  // Rows of linears of one site, one under the other.
  struct Task {
    std::vector<Linear*> linears;
    WeightScheme scheme;
    int64_t begin, end;  // of the rows of all of them
    double cost;
  };

  // How often the rows are rounded.
  double tries() const {
    const Granularity granularity = rounding_.scheme().granularity;
    const bool by_row = granularity == Granularity::kChannel || order_by_activation_;
    return rounding_.searches_clips() && by_row ? kGptqClips : 1;
  }

  // One task, or one for each of `processes` if the rows take longer than the decomposition, which is then
  // made by each.
  void add_tasks(const std::vector<Linear*>& linears, const WeightScheme& scheme, int64_t processes,
                 std::vector<Task>& tasks) const {
    if (linears.empty()) return;
    const int64_t in = linears.front()->weight.size(1);
    int64_t rows = 0;
    for (const Linear* linear : linears) rows += linear->weight.size(0);
    const auto n = static_cast<double>(in), factor = n * n * n / 3;
    const auto cost_of = [&](int64_t part) { return tries() * static_cast<double>(part) * n * n; };
    const int64_t pieces = cost_of(rows) > factor ? processes : 1;
    const int64_t wanted = (rows + pieces - 1) / pieces;
    const int64_t each = pieces == 1 ? rows : (wanted + kGptqRows - 1) / kGptqRows * kGptqRows;
    for (int64_t begin = 0; begin < rows; begin += each) {
      const int64_t end = std::min(rows, begin + each);
      tasks.push_back({linears, scheme, begin, end, cost_of(end - begin) + factor});
    }
  }

  void round(const std::vector<Task>& tasks, Sublayer& sublayer, StepContext& context) const {
    std::vector<double> costs;
    for (const Task& task : tasks) costs.push_back(task.cost);
    std::vector<QuantizedTensor> pieces;  // of the linears that are being put together
    const auto solve = [&](size_t i) {
      const std::string& name = tasks[i].linears.front()->site;
      const SiteStatistics& statistics = context.statistics.at(name);
      const Tensor M = rounded_ ? rounded_second_moment(sublayer.site(name), statistics)
                                : statistics.second_moment.value();
      std::vector<Tensor> parts;
      for (const Linear* linear : tasks[i].linears) parts.push_back(linear->weight.values());
      return parcel_of(round(at::cat(parts).slice(0, tasks[i].begin, tasks[i].end), M, tasks[i].scheme));
    };
    context.processes.share(costs, solve, [&](size_t i, const Parcel& parcel) {
      ParcelReader reader(parcel);
      pieces.push_back(quantized_of(reader, tasks[i].scheme, tasks[i].linears.front()->weight.device()));
      const bool is_last = i + 1 == tasks.size() || tasks[i + 1].begin == 0;
      if (is_last) put(tasks[i].linears, std::exchange(pieces, {}));
    });
  }

  QuantizedTensor round(const Tensor& W, const Tensor& M, const WeightScheme& scheme) const {
    GptqOptions options = gptq_options();
    if (!options.search_clips) options.clip = rounding_.fixed_clip(W);
    return gptq(W, M, {}, scheme, options);
  }

  // Gives the linears what was made of their rows, piece after piece.
  static void put(const std::vector<Linear*>& linears, const std::vector<QuantizedTensor>& pieces) {
    QuantizedTensor all = pieces.front();
    if (linears.size() == 1 && pieces.size() == 1) return linears.front()->weight.set(all);
    const auto joined = [&](Tensor QuantizedTensor::* member) {
      std::vector<Tensor> parts;
      for (const QuantizedTensor& piece : pieces) parts.push_back(piece.*member);
      return parts.front().defined() ? at::cat(parts) : Tensor();
    };
    if (pieces.size() > 1) {
      all.codes = joined(&QuantizedTensor::codes);
      all.scale = joined(&QuantizedTensor::scale);
      all.zero = joined(&QuantizedTensor::zero);
    }
    int64_t begin = 0;
    for (Linear* linear : linears) {
      const int64_t end = begin + linear->weight.size(0);
      const auto rows = [&](const Tensor& t) {
        return t.defined() ? t.slice(0, begin, end).clone() : Tensor();
      };
      linear->weight.set(QuantizedTensor{rows(all.codes), rows(all.scale), rows(all.zero), all.scheme});
      begin = end;
    }
  }

  WeightRounding rounding_;
  double damping_;
  bool order_by_activation_;
  bool rounded_;
};

}  // namespace

std::unique_ptr<Step> make_gptq_step(JsonFields& options) {
  return std::make_unique<GptqStep>(options);
}

}  // namespace ptq
