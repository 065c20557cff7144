// Rotates the inputs of linears in blocks, and sorts their channels between blocks (DuQuant, arXiv
// 2406.01721).
//
// A token's step is set by its largest channel. A rotation of B channels spreads an outlier over its block; a
// permutation then deals the channels out so that no block has more of the large ones than another; a second
// rotation evens out what is left within blocks. Each of the three is a step of its own here, and each is the
// same map on the site's values and on the columns of the linears that read it, so the product is unchanged.
//
// The rotation is a Hadamard matrix, or the one that the paper's greedy search finds. On the models measured
// the two are equally good; the first has nothing to store and costs log B additions a value instead of 2 B
// operations. `auto` takes for each site the one that leaves the smaller error of the site's outputs after
// rounding, on tokens that the search has not seen.
#include <algorithm>
#include <optional>

#include "ptq/base/error.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/ops/ops.h"
#include "ptq/solve/rotation_search.h"
#include "ptq/step/rewrites.h"
#include "step/options.h"
#include "step/site_selection.h"
#include "step/step_makers.h"

namespace ptq {
namespace {

constexpr int64_t kSmallBlock = 16;

// The option `block`: "auto", or a number of channels.
class BlockOption {
 public:
  explicit BlockOption(JsonFields& options) {
    if (!options.has("block") || options.at("block") == "auto") return;
    block_ = options.integer("block", 0);
    if (block_ < 1 || block_ > 4096) {
      throw usage_error(options.path() + ".block", std::to_string(block_) + " is outside 1 to 4096");
    }
  }

  bool automatic() const { return block_ == 0; }

  // For a site of `channels`. Throws a usage Error if the block does not divide them.
  int64_t of(const std::string& where, int64_t channels) const {
    if (block_ == 0) return power_of_two_block(channels);
    if (channels % block_ != 0) {
      throw usage_error(where,
                        "blocks of " + std::to_string(block_) + " do not divide its " +
                            std::to_string(channels) + " channels",
                        "block = \"auto\" takes the largest power of two up to 128 that does, here " +
                            std::to_string(power_of_two_block(channels)));
    }
    return block_;
  }

 private:
  int64_t block_ = 0;  // 0: the largest power of two up to 128
};

// How `auto` rounds what it compares: with the bits and activation clip of the recipe, weights per channel
// and asymmetric.
struct Trial {
  int weight_bits;
  int activation_bits;  // 16: float
  double clip_factor;
};

// The sum of squared errors of the outputs of linears that read a site, for x [tokens, channels] before
// `stage`.
double rounded_output_error(Sublayer& sublayer, const std::string& site, const TransformOp& stage,
                            const Tensor& x, const Trial& trial) {
  const Tensor rotated = apply_op(stage, x);
  Tensor rounded = rotated;
  if (trial.activation_bits < 16) {
    rounded =
        ActivationQuantizer::per_token(trial.activation_bits, /*symmetric=*/false, trial.clip_factor)(rotated)
            .dequantize();
  }
  WeightScheme scheme;
  scheme.bits = trial.weight_bits;
  scheme.granularity = Granularity::kChannel;
  scheme.symmetric = false;
  double error = 0;
  for (const Linear* linear : sublayer.linears()) {
    if (linear->site != site) continue;
    const Tensor W = apply_op(stage, linear->weight.values());
    const Tensor W_rounded = dequantize(round_to_nearest(W, scheme));
    const Tensor difference = ops::linear(rotated, W) - ops::linear(rounded, W_rounded);
    error += difference.square().sum(-1, false, at::kDouble).cpu().cumsum(0)[-1].item<double>();
  }
  return error;
}

class RotateStep : public Step {
 public:
  explicit RotateStep(JsonFields& options)
      : sites_(options, "linear_inputs"),
        block_(options),
        kind_(choice(options, "kind", Kind::kHadamard,
                     {{"hadamard", Kind::kHadamard}, {"greedy", Kind::kGreedy}, {"auto", Kind::kAuto}})),
        random_signs_(choice(options, "signs", false, {{"none", false}, {"random", true}})),
        seed_(static_cast<uint64_t>(options.integer("seed", 0))),
        samples_(samples_option(options, 2048)),
        trial_{static_cast<int>(options.integer("weight_bits", 4)),
               static_cast<int>(options.integer("activation_bits", 4)), options.number("clip_factor", 1)} {
    greedy_.steps = options.integer("steps", 256);
    using Peak = GreedyOptions::Peak;
    greedy_.peak =
        choice(options, "peak", Peak::kMagnitude, {{"magnitude", Peak::kMagnitude}, {"range", Peak::kRange}});
    options.finish();
    if (greedy_.steps < 0 || greedy_.steps > 100000) {
      throw usage_error(options.path() + ".steps", std::to_string(greedy_.steps) + " is outside 0 to 100000");
    }
    const bool known = trial_.weight_bits >= 2 && trial_.weight_bits <= 8 && trial_.clip_factor > 0 &&
                       trial_.clip_factor <= 1 && trial_.activation_bits >= 2 &&
                       (trial_.activation_bits <= 8 || trial_.activation_bits == 16);
    if (!known) {
      throw usage_error(options.path(),
                        "weight_bits are 2 to 8, activation_bits 2 to 8 or 16, clip_factor in (0, 1]");
    }
  }

  void check(const std::vector<Sublayer*>& sublayers) const override { sites_.check(sublayers); }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    for (const std::string& name : sites_.transformable(sublayer)) {
      const int64_t channels = site_channels(sublayer, name);
      const int64_t size = block_.of(sublayer.prefix + "." + name, channels);
      if (kind_ != Kind::kGreedy) make_block_hadamard(channels, size);  // an error if there is none
      if (kind_ != Kind::kHadamard) needs[name].samples = samples_;
    }
    return needs;
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    const std::vector<std::string> names = sites_.transformable(sublayer);
    std::vector<int64_t> sizes;
    std::vector<double> costs;
    for (const std::string& name : names) {
      const int64_t channels = site_channels(sublayer, name);
      sizes.push_back(size_at(sublayer, name, context.remarks));
      costs.push_back(static_cast<double>(channels));
      if (random_signs_) {
        append_op(sublayer, name, signs(channels, seed_of(sublayer, name, context.seed)), context.statistics);
      }
      if (kind_ != Kind::kHadamard && context.statistics.at(name).all_zero()) {
        context.remarks.fallbacks.push_back({sublayer.prefix + "." + name, "rotated at random", kNoActivity});
      }
    }
    if (kind_ == Kind::kHadamard) {
      for (size_t i = 0; i < names.size(); ++i)
        append_op(sublayer, names[i], hadamard(sublayer, names[i], sizes[i]), context.statistics);
      return;
    }
    // Searched rotations of different sites do not know of each other.
    const auto solve = [&](size_t i) {
      Parcel parcel;
      if (const auto found = search(sublayer, names[i], sizes[i], context)) {
        parcel.add(found->R);
        parcel.add(std::vector<int64_t>{found->steps});
      }
      return parcel;
    };
    context.processes.share(costs, solve, [&](size_t i, const Parcel& parcel) {
      if (parcel.tensors.empty())
        return append_op(sublayer, names[i], hadamard(sublayer, names[i], sizes[i]), context.statistics);
      ParcelReader reader(parcel);
      BlockRotation found;
      found.R = reader.tensor();
      found.steps = reader.integers().at(0);
      append_op(sublayer, names[i], found, context.statistics);
    });
  }

  void plan(Sublayer& sublayer, PlanContext& context) const override {
    for (const std::string& name : sites_.transformable(sublayer)) {
      const int64_t channels = site_channels(sublayer, name);
      const int64_t size = size_at(sublayer, name, context.remarks);
      const auto meta = at::TensorOptions().device(at::kMeta);
      if (random_signs_) place_op(sublayer, name, Signs{at::empty({channels}, meta)});
      if (kind_ == Kind::kHadamard) {
        place_op(sublayer, name, make_block_hadamard(channels, size));
        continue;
      }
      context.at_most = context.at_most || kind_ == Kind::kAuto;
      place_op(sublayer, name, BlockRotation{at::empty({size, size}, meta)});
      // A step of the search turns the samples and the product by one matrix.
      const auto values = static_cast<double>(samples_ * channels + size * size);
      context.cost.operations += static_cast<double>(greedy_.steps) * 2 * static_cast<double>(size) * values;
      context.cost.bytes = std::max(context.cost.bytes, samples_ * channels * 8);
    }
  }

 private:
  enum class Kind { kHadamard, kGreedy, kAuto };

  // The block of the site's rotation; says so if it is a poor one.
  int64_t size_at(Sublayer& sublayer, const std::string& site, Remarks& remarks) const {
    const std::string where = sublayer.prefix + "." + site;
    const int64_t channels = site_channels(sublayer, site), size = block_.of(where, channels);
    if (block_.automatic() && size < kSmallBlock && size < channels &&
        sublayer.site(site).transform.empty()) {
      remarks.fallbacks.push_back(
          {where, "rotated in blocks of " + std::to_string(size) + " only",
           "no larger power of two divides its " + std::to_string(channels) + " channels"});
    }
    return size;
  }

  // Differs from block to block and from site to site.
  uint64_t seed_of(Sublayer& sublayer, const std::string& site, uint64_t run_seed) const {
    uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
    for (const char c :
         std::to_string(run_seed) + "/" + std::to_string(seed_) + "/" + sublayer.prefix + "." + site) {
      hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
    }
    return hash;
  }

  Signs signs(int64_t channels, uint64_t seed) const {
    at::Generator generator = at::detail::createCPUGenerator(seed);
    return {at::randint(0, 2, {channels}, generator).to(at::kFloat) * 2 - 1};
  }

  static TransformOp hadamard(Sublayer& sublayer, const std::string& site, int64_t size) {
    return make_block_hadamard(site_channels(sublayer, site), size);
  }

  // The rotation that the search finds; none if `auto` prefers Hadamard's.
  std::optional<BlockRotation> search(Sublayer& sublayer, const std::string& site, int64_t size,
                                      const StepContext& context) const {
    const Tensor& samples = context.statistics.at(site).samples;
    // `auto` judges on the last quarter, so it does not search there.
    const bool judged = kind_ == Kind::kAuto && samples.size(0) >= 4;
    const int64_t searched = judged ? samples.size(0) - samples.size(0) / 4 : samples.size(0);
    const Tensor Q = random_orthogonal(size - 1, seed_of(sublayer, site, context.seed));
    const GreedyRotation found =
        greedy_rotation(samples.slice(0, 0, searched), size, rotation_base(size, Q), greedy_);
    BlockRotation greedy{found.R.to(at::kFloat), found.steps};
    if (kind_ == Kind::kGreedy) return greedy;
    const Tensor kept = samples.slice(0, judged ? searched : 0);
    const double greedy_error = rounded_output_error(sublayer, site, greedy, kept, trial_);
    const double hadamard_error =
        rounded_output_error(sublayer, site, hadamard(sublayer, site, size), kept, trial_);
    if (!(greedy_error < hadamard_error)) return {};
    return greedy;
  }

  SiteSelection sites_;
  BlockOption block_;
  Kind kind_;
  GreedyOptions greedy_;
  bool random_signs_;
  uint64_t seed_;
  int64_t samples_;
  Trial trial_;
};

class ZigzagStep : public Step {
 public:
  explicit ZigzagStep(JsonFields& options)
      : sites_(options, "linear_inputs"), block_(options), samples_(samples_option(options, 2048)) {
    options.finish();
  }

  void check(const std::vector<Sublayer*>& sublayers) const override { sites_.check(sublayers); }

  Needs needs(Sublayer& sublayer) const override {
    Needs needs;
    for (const std::string& name : sites_.transformable(sublayer)) {
      block_.of(sublayer.prefix + "." + name, site_channels(sublayer, name));
      needs[name].samples = samples_;
    }
    return needs;
  }

  void apply(Sublayer& sublayer, StepContext& context) const override {
    for (const std::string& name : sites_.transformable(sublayer)) {
      const int64_t size = block_.of(sublayer.prefix + "." + name, site_channels(sublayer, name));
      const SiteStatistics& statistics = context.statistics.at(name);
      const Tensor maxima = statistics.samples.abs().amax(0);
      if (statistics.all_zero())
        context.remarks.fallbacks.push_back(
            {sublayer.prefix + "." + name, "permuted by no order", kNoActivity});
      append_op(sublayer, name, Permutation{zigzag(maxima, size)}, context.statistics);
    }
  }

  void plan(Sublayer& sublayer, PlanContext&) const override {
    for (const std::string& name : sites_.transformable(sublayer)) {
      const int64_t channels = site_channels(sublayer, name);
      block_.of(sublayer.prefix + "." + name, channels);
      const auto options = at::TensorOptions().dtype(at::kLong).device(at::kMeta);
      place_op(sublayer, name, Permutation{at::empty({channels}, options)});
    }
  }

 private:
  SiteSelection sites_;
  BlockOption block_;
  int64_t samples_;
};

}  // namespace

std::unique_ptr<Step> make_rotate_step(JsonFields& options) {
  return std::make_unique<RotateStep>(options);
}

std::unique_ptr<Step> make_zigzag_step(JsonFields& options) {
  return std::make_unique<ZigzagStep>(options);
}

}  // namespace ptq
