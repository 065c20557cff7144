// Cases of sorts d3 and d4: a small Llama taken through smoothing, rotations and rounding, against the
// authors' parameters, codes, hidden states and logits. All sizes are those of the case.
#include "../support/toy_source.h"
#include "duquant_model.h"
#include "ptq/calibration/site_sums.h"
#include "ptq/calibration/stream.h"
#include "ptq/solve/rotation_search.h"
#include "ptq/step/rewrites.h"

namespace ptq::golden {
namespace {

// Of the largest magnitude. Codes, swaps and permutations are exact. The cases state those of the logits and
// of R; the others are what float32 sums in another order need.
constexpr double kLogits = 1e-4;
constexpr double kRotation = 1e-5;
constexpr double kFloat = 1e-5;
constexpr double kSearched = 1e-2;

// What each site sees before it is rounded.
struct Recorder : Observer {
  void observe(const Site& site, const Tensor& x) override { values[site.name] = x.clone(); }
  std::map<std::string, Tensor> values;
};

// "asymmetric per token, clip 0.9" -> 0.9.
double clip_of(const Json& text) {
  const auto words = text.get<std::string>();
  const std::string key = "clip ";
  const size_t at = words.find(key);
  if (at == std::string::npos) throw std::runtime_error("no clip in \"" + words + "\"");
  return std::stod(words.substr(at + key.size()));
}

MemorySource source_of(const CaseTensors& tensors, const Json& config) {
  std::map<std::string, Tensor> named;
  for (const TensorInfo& info : tensors.file().tensors()) {
    if (info.name.starts_with("model.") || info.name == "lm_head.weight")
      named[info.name] = tensors[info.name];
  }
  return {std::move(named), config};
}

class LlamaCase {
 public:
  LlamaCase(const std::filesystem::path& json_path, Checks& checks)
      : checks_(checks),
        json_(read_json_file(json_path.string())),
        recipe_(json_.at("recipe")),
        tensors_(json_path),
        source_(source_of(tensors_, json_.at("config"))),
        model_(find_architecture(source_, json_path.string()).make(source_)) {}

  void run() {
    const Blocks floats = load_blocks();
    checks_.near("logits of the float model", logits_of(floats), flat_rows("logits_float"), kFloat);
    compare_maxima(floats);
    for (const Json& trace : json_.at("traces")) compare_search(trace);
    compare_quantized(quantize());
    std::printf("  codes equal: %lld of %lld of weights, %lld of %lld of activations\n",
                static_cast<long long>(weights_.equal), static_cast<long long>(weights_.all),
                static_cast<long long>(activations_.equal), static_cast<long long>(activations_.all));
  }

 private:
  using Blocks = std::vector<std::unique_ptr<Block>>;
  struct Count {
    int64_t equal = 0, all = 0;
  };

  static std::string layer(size_t i) { return "layers." + std::to_string(i) + "."; }
  Tensor flat_rows(const std::string& name) const { return tensors_[name].unsqueeze(0); }

  Blocks load_blocks() const {
    Blocks blocks;
    for (int64_t i = 0; i < model_->num_blocks(); ++i) blocks.push_back(model_->load_block(i));
    return blocks;
  }

  // [1, tokens, vocab]
  Tensor logits_of(const Blocks& blocks) const {
    Tensor hidden = model_->embed(tensors_["eval_ids"].to(at::kLong));
    for (const auto& block : blocks) hidden = block->forward(hidden);
    return model_->logits(hidden);
  }

  void equal_codes(const std::string& what, const Tensor& ours, const Tensor& expected, Count& count) {
    checks_.equal(what, ours, expected);
    if (ours.sizes() != expected.sizes()) return;
    count.equal += ours.to(at::kDouble).eq(expected.to(at::kDouble)).sum().item<int64_t>();
    count.all += ours.numel();
  }

  // The largest activation of each channel of the float model while it is calibrated.
  void compare_maxima(const Blocks& blocks) {
    Tensor hidden = embed_windows(*model_, tensors_["calib_ids"].to(at::kLong));
    for (size_t i = 0; i < blocks.size(); ++i) {
      Needs needs;
      for (const SiteName& site : kLinearSites) needs[site.ours].channel_abs_max = true;
      StatisticsObserver observer(blocks[i]->prefix(), needs, Batches::of(hidden.size(0), hidden.size(1)));
      for (const Sublayer& sublayer : blocks[i]->sublayers()) advance(sublayer, hidden, &observer);
      const Statistics statistics = observer.finish();
      for (const SiteName& site : kLinearSites) {
        const std::string name = layer(i) + site.theirs + ".absmax";
        checks_.near(name, statistics.at(site.ours).channel_abs_max, tensors_[name], kFloat);
      }
    }
  }

  // One search for a rotation, with the random matrix of the case. Returns what to apply.
  BlockRotation compare_rotation(const std::string& site, const char* number, const Tensor& x, int64_t block,
                                 const Json& swaps) {
    GreedyOptions options;
    options.steps = recipe_.at("steps").get<int64_t>();
    options.peak = recipe_.at("peak").get<std::string>().starts_with("range")
                       ? GreedyOptions::Peak::kRange
                       : GreedyOptions::Peak::kMagnitude;
    const Tensor base = rotation_base(block, tensors_[site + ".Q" + number]);
    const GreedyRotation found = greedy_rotation(x, block, base, options);
    const std::string name = site + ".R" + number;
    checks_.expect(found.swaps == swaps.get<std::vector<int64_t>>(),
                   name + ": swaps " + Json(found.swaps).dump() + " where the case has " + swaps.dump());
    checks_.near(name, found.R, tensors_[name].to(at::kDouble), kRotation);
    return {found.R.to(at::kFloat), found.steps};
  }

  // The rotations and the permutation of one site, found from the activations that the authors searched on.
  void compare_search(const Json& trace) {
    const std::string site = layer(trace.at("layer").get<size_t>()) + trace.at("site").get<std::string>();
    const auto block = trace.at("block").get<int64_t>();
    const Tensor x = tensors_[site + ".search_x"];
    const Tensor once =
        apply_op(compare_rotation(site, "1", x, block, trace.at("R1_swaps")), x);  // [tokens, channels]
    const Tensor order = zigzag(once.abs().amax(0), block);
    checks_.equal(site + ".perm", order, tensors_[site + ".perm"]);
    compare_rotation(site, "2", apply_op(Permutation{order}, once), block, trace.at("R2_swaps"));
  }

  // The scales that the program's step computes from the case's maxima.
  void compare_smoothing(size_t i, const Block& block) {
    const std::unique_ptr<Block> copy = testing::clone_of(block);
    Statistics statistics;
    for (const SiteName& site : kLinearSites)
      statistics[site.ours].channel_abs_max = tensors_[layer(i) + site.theirs + ".absmax"];
    apply_step("smooth", smooth_options(recipe_.at("alpha").get<double>()), *copy, statistics);
    for (const SiteName& site : kLinearSites) {
      const std::string name = layer(i) + site.theirs + ".smooth";
      each_near(checks_, name, copy->site(site.ours).smooth, tensors_[name], 1e-6);
    }
  }

  // Folds the scales of the case.
  void smooth(size_t i, Block& block) {
    Statistics none;
    for (Sublayer& sublayer : block.sublayers()) {
      for (const FoldEdge& edge : sublayer.fold_edges()) {
        for (const SiteName& site : kLinearSites) {
          if (edge.sites.front() != site.ours) continue;
          const Tensor s = tensors_[layer(i) + site.theirs + ".smooth"];
          checks_.expect(at::equal(s, share_scales(edge, s)),
                         layer(i) + site.theirs + ".smooth: heads that share a row have different scales");
          smooth_edge(sublayer, edge, s, none);
        }
      }
    }
  }

  // What the authors searched on: a site of the smoothed block behind sites that are rounded already. A value
  // at the edge between two codes may fall to either side, so this is a norm.
  void compare_searched(const std::string& name, const char* site, Block& block, const Tensor& hidden) {
    Recorder seen;
    block.forward(hidden, nullptr, &seen);
    const Tensor expected = tensors_[name];
    const double error = (seen.values.at(site).flatten(0, 1) - expected).norm().item<double>() /
                         expected.norm().item<double>();
    checks_.expect(error <= kSearched, name + ": differs by a relative " + std::to_string(error));
  }

  // Rotates and sorts the channels of a site with the parameters of the case.
  void rotate(const std::string& name, const char* site, Block& block) {
    Statistics none;
    for (Sublayer& sublayer : block.sublayers()) {
      if (sublayer.find_site(site) == nullptr) continue;
      append_op(sublayer, site, BlockRotation{tensors_[name + ".R1"]}, none);
      append_op(sublayer, site, Permutation{tensors_[name + ".perm"].to(at::kLong)}, none);
      append_op(sublayer, site, BlockRotation{tensors_[name + ".R2"]}, none);
    }
  }

  void round_activations(Block& block, const Json& sites, const char* rule) {
    Statistics none;
    apply_step("activations",
               {{"scales", "dynamic"},
                {"bits", recipe_.at("abits")},
                {"symmetric", false},
                {"clip_factor", clip_of(recipe_.at(rule))},
                {"sites", sites}},
               block, none);
  }

  void round_heads(Block& block) {
    Statistics none;
    if (recipe_.at("q_k").get<std::string>().find("Hadamard") != std::string::npos)
      apply_step("qk_hadamard", Json::object(), block, none);
    round_activations(block, {"attn.q", "attn.k"}, "q_k");
    round_activations(block, {"attn.v"}, "v");
  }

  // The linears that read a site.
  void round_weights(const char* site, Block& block) {
    WeightScheme scheme;
    scheme.bits = recipe_.at("wbits").get<int>();
    scheme.granularity = Granularity::kChannel;
    scheme.symmetric = false;
    const Tensor clip = at::full({1}, clip_of(recipe_.at("weights")), at::kFloat);
    for (Linear* linear : block.linears()) {
      if (linear->site != site) continue;
      linear->weight.set(round_to_nearest(linear->weight.values(), scheme, clip));
    }
  }

  bool rounds_activations() const { return recipe_.at("abits").get<int>() < 16; }

  // Site after site of block after block, as the authors go, with the case's parameters.
  Blocks quantize() {
    Blocks blocks = load_blocks();
    Tensor hidden = embed_windows(*model_, tensors_["calib_ids"].to(at::kLong));
    for (size_t i = 0; i < blocks.size(); ++i) {
      Block& block = *blocks[i];
      compare_smoothing(i, block);
      smooth(i, block);
      if (rounds_activations()) round_heads(block);
      for (const SiteName& site : kLinearSites) {
        const std::string name = layer(i) + site.theirs;
        compare_searched(name + ".search_x", site.ours, block, hidden);
        rotate(name, site.ours, block);
        round_weights(site.ours, block);
        if (rounds_activations()) round_activations(block, {site.ours}, "activations");
      }
      compare_weights(i, block);
      advance(block, hidden);
    }
    return blocks;
  }

  void compare_weights(size_t i, Block& block) {
    for (const Linear* linear : block.linears()) {
      const std::string name = layer(i) + linear->name.substr(block.prefix().size() + 1);
      const QuantizedTensor& q = *linear->weight.quantized();
      const int64_t low = q.scheme.low();  // the case counts codes from 0
      equal_codes(name + ".codes", q.codes.to(at::kLong) - low, tensors_[name + ".codes"], weights_);
      checks_.equal(name + ".zero", q.zero.to(at::kLong).flatten() - low, tensors_[name + ".zero"]);
      checks_.near(name + ".step", q.scale.flatten(), tensors_[name + ".step"], kFloat);
    }
  }

  // What a site makes of x [1, tokens, channels]. Ours are codes less their zero points.
  // `heads`: the case has [heads, tokens, channels of a head].
  void compare_activation(const std::string& name, const Site& site, const Tensor& x, bool heads) {
    const Activation a = site.quantizer(x);
    Tensor codes = a.centered().squeeze(0), step = a.scale.flatten();
    if (heads) {
      codes = codes.unflatten(-1, {-1, site.head_dim}).transpose(0, 1);
      step = a.scale.reshape({codes.size(1), codes.size(0)}).t();
    }
    const Tensor zero = tensors_[name + ".zero"].to(at::kLong).unsqueeze(-1);
    const Tensor expected = tensors_[name + ".codes"].to(at::kLong) - zero;
    equal_codes(name + ".codes", codes, expected, activations_);
    checks_.near(name + ".step", step, tensors_[name + ".step"], kFloat);
  }

  void compare_activations(size_t i, Block& block, const Recorder& seen) {
    for (const SiteName& site : kLinearSites) {
      compare_activation(layer(i) + site.theirs + ".act", block.site(site.ours), seen.values.at(site.ours),
                         false);
    }
    for (const auto& [theirs, ours] :
         {SiteName{"q_head", "attn.q"}, {"k_head", "attn.k"}, {"v_head", "attn.v"}})
      compare_activation(layer(i) + theirs, block.site(ours), seen.values.at(ours), true);
  }

  void compare_quantized(const Blocks& blocks) {
    Tensor hidden = model_->embed(tensors_["eval_ids"].to(at::kLong));
    for (size_t i = 0; i < blocks.size(); ++i) {
      Recorder seen;
      hidden = blocks[i]->forward(hidden, nullptr, &seen);
      if (rounds_activations()) compare_activations(i, *blocks[i], seen);
      checks_.near(layer(i) + "out", hidden, flat_rows(layer(i) + "out"), kLogits);
    }
    const Tensor logits = model_->logits(hidden), expected = flat_rows("logits");
    checks_.near("logits", logits, expected, kLogits);
    std::printf("  logits off by %.1e of the largest\n",
                (logits - expected).abs().max().item<double>() / expected.abs().max().item<double>());
  }

  Checks& checks_;
  Json json_;
  const Json& recipe_;
  CaseTensors tensors_;
  MemorySource source_;
  std::unique_ptr<Model> model_;
  Count weights_, activations_;
};

}  // namespace

void run_llama_case(const std::filesystem::path& json_path, Checks& checks) {
  LlamaCase(json_path, checks).run();
}

}  // namespace ptq::golden
