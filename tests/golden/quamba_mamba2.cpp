// Cases of sort g3: Quamba2 on a small Mamba-2. Heads and channels are sorted and clustered, scales are those
// of clusters, groups and parts, and the weights are rounded part by part.
#include <memory>
#include <vector>

#include "memory_source.h"
#include "ptq/calibration/statistics.h"
#include "ptq/model/hadamard.h"
#include "ptq/solve/head_clusters.h"
#include "ptq/step/step.h"
#include "quamba_cases.h"

namespace ptq::golden {
namespace {

const std::string kLayers = "backbone.layers.";

// The largest |x| of every channel at every site, and the mean of |x| in each window at the scan's input.
struct Maxima : Observer {
  void observe(const Site& site, const Tensor& x) override {
    const Tensor channels = x.abs().flatten(0, -2).amax(0);
    Tensor& all = of_channel[site.name];
    all = all.defined() ? at::maximum(all, channels) : channels;
    if (site.name == "ssm.x") level = x.abs().mean(1).amax(0);
  }
  std::map<std::string, Tensor> of_channel;
  Tensor level;
};

std::unique_ptr<Step> make_step(const char* name, const Json& options) {
  JsonFields fields(options, name);
  return find_step(name, "golden").make(fields);
}

Json config_of(const Json& model) {
  return {{"d_model", model.at("d_model")},
          {"n_layer", model.at("n_layer")},
          {"vocab_size", model.at("vocab")},
          {"tie_embeddings", model.at("tie_embeddings")},
          {"ssm_cfg",
           {{"layer", "Mamba2"},
            {"d_state", model.at("d_state")},
            {"headdim", model.at("headdim")},
            {"ngroups", model.at("ngroups")},
            {"d_conv", model.at("d_conv")},
            {"expand", model.at("d_inner").get<int64_t>() / model.at("d_model").get<int64_t>()}}}};
}

// The same function as rows of in_proj, conv and out_proj lie in the order of `clusters`.
void reorder(std::map<std::string, Tensor>& tensors, const std::string& mixer, const HeadClusters& clusters) {
  const Tensor &channels = clusters.channel_order, &heads = clusters.head_order;
  const int64_t E = channels.size(0), H = heads.size(0);
  Tensor& in_proj = tensors.at(mixer + "in_proj.weight");
  const int64_t BC = in_proj.size(0) - 2 * E - H;
  const Tensor parts = at::cat({channels, channels + E, at::arange(2 * E, 2 * E + BC), heads + 2 * E + BC});
  in_proj = in_proj.index_select(0, parts);
  const Tensor x_first = at::cat({channels, at::arange(E, E + BC)});
  for (const char* name : {"conv1d.weight", "conv1d.bias"})
    tensors.at(mixer + name) = tensors.at(mixer + name).index_select(0, x_first);
  for (const char* name : {"A_log", "D", "dt_bias"})
    tensors.at(mixer + name) = tensors.at(mixer + name).index_select(0, heads);
  tensors.at(mixer + "norm.weight") = tensors.at(mixer + "norm.weight").index_select(0, channels);
  tensors.at(mixer + "out_proj.weight") = tensors.at(mixer + "out_proj.weight").index_select(1, channels);
}

class Mamba2Case {
 public:
  Mamba2Case(const std::filesystem::path& json_path, Checks& checks)
      : checks_(checks),
        json_(read_json_file(json_path.string())),
        tensors_(json_path),
        config_(config_of(json_.at("model"))),
        heads_(json_.at("model").at("nheads").get<int64_t>()),
        groups_(json_.at("model").at("ngroups").get<int64_t>()),
        layers_(json_.at("model").at("n_layer").get<int64_t>()) {}

  void run() {
    std::map<std::string, Tensor> weights = under("model.");
    const Passed passed = compare_logits(weights, "fp32");
    for (int64_t i = 0; i < layers_; ++i) {
      const Maxima& seen = passed.seen.at(static_cast<size_t>(i));
      const HeadClusters clusters = compare_clusters(i, seen);
      compare_cluster_scales(i, seen, *passed.blocks.at(static_cast<size_t>(i)), clusters);
      reorder(weights, mixer(i), clusters);
    }
    compare_logits(weights, "reordered");
    compare_prepared();
  }

 private:
  static std::string mixer(int64_t layer) { return kLayers + std::to_string(layer) + ".mixer."; }
  static std::string layer_name(int64_t layer) { return "layers." + std::to_string(layer) + "."; }

  // The tensors of a model of the case, by their own names.
  std::map<std::string, Tensor> under(const std::string& prefix) const {
    std::map<std::string, Tensor> all;
    for (const TensorInfo& info : tensors_.file().tensors()) {
      if (info.name.starts_with(prefix)) all[info.name.substr(prefix.size())] = tensors_[info.name];
    }
    return all;
  }

  struct Passed {
    std::vector<std::unique_ptr<Block>> blocks;
    std::vector<Maxima> seen;
  };

  // The logits of the two texts, which must be those of the case, and what the calibration windows showed.
  // `change` may alter a block.
  Passed compare_logits(
      const std::map<std::string, Tensor>& weights, const std::string& name,
      const std::function<void(Block&)>& change = [](Block&) {}) {
    const MemorySource source(weights, config_);
    const std::unique_ptr<Model> model = find_architecture(source, name).make(source);
    Passed passed{.blocks = {}, .seen = std::vector<Maxima>(static_cast<size_t>(layers_))};
    Tensor calibrated = model->embed(tensors_["calib_ids"]), hidden = model->embed(tensors_["eval_ids"]);
    for (int64_t i = 0; i < layers_; ++i) {
      passed.blocks.push_back(model->load_block(i));
      Block& block = *passed.blocks.back();
      change(block);
      calibrated = block.forward(calibrated, nullptr, &passed.seen.at(static_cast<size_t>(i)));
      hidden = block.forward(hidden);
    }
    const Tensor expected = tensors_["logits." + name];
    const double error = ((model->logits(hidden) - expected).norm() / expected.norm()).item<double>();
    checks_.expect(error <= 1e-5, name + ": logits differ by a relative " + std::to_string(error));
    return passed;
  }

  HeadClusters compare_clusters(int64_t i, const Maxima& seen) {
    const Tensor level = tensors_["channel_stat." + layer_name(i) + "x_conv_out"];
    checks_.near("channel_stat", seen.level, level, 1e-5);
    const std::string stored = "reorder." + layer_name(i);
    const HeadClusters clusters = cluster_heads(level, heads_, groups_, ClusterFeatures::kAsPublished);
    checks_.equal(stored + "channel_index", clusters.channel_order, tensors_[stored + "channel_index"]);
    checks_.equal(stored + "head_index", clusters.head_order, tensors_[stored + "head_index"]);
    compare_sizes(clusters, stored, "dim_group_sizes");
    compare_sizes(cluster_heads(level, heads_, groups_, ClusterFeatures::kMembers), stored,
                  "dim_group_sizes_if_heads_were_reordered_first");
    return clusters;
  }

  void compare_sizes(const HeadClusters& clusters, const std::string& stored, const std::string& channels) {
    std::vector<Tensor> head_sizes, channel_sizes;
    for (const std::vector<HeadCluster>& group : clusters.groups) {
      for (const HeadCluster& cluster : group) {
        head_sizes.push_back(at::tensor({cluster.heads}));
        channel_sizes.push_back(at::tensor(cluster.channels));
      }
    }
    const Tensor heads = tensors_[stored + "head_group_sizes"], sizes = tensors_[stored + channels];
    checks_.equal(stored + "head_group_sizes", at::cat(head_sizes).view_as(heads), heads);
    checks_.equal(stored + channels, at::stack(channel_sizes).view_as(sizes), sizes);
  }

  // The model that the authors round: in order, the stream rotated, norms folded, the scan's output rotated
  // online. Its scales and codes.
  void compare_prepared() {
    std::map<std::string, Tensor> weights = under("prepared.");
    const Tensor embedding = tensors_["model.backbone.embedding.weight"];
    const Hadamard stream = make_hadamard(embedding.size(1));
    weights["backbone.embedding.weight"] = stream.apply(embedding);
    weights["lm_head.weight"] = stream.apply(embedding * tensors_["model.backbone.norm_f.weight"]);
    const Tensor ones = at::ones({embedding.size(1)});
    weights["backbone.norm_f.weight"] = ones;
    for (int64_t i = 0; i < layers_; ++i) weights[kLayers + std::to_string(i) + ".norm.weight"] = ones;
    const Passed passed = compare_logits(weights, "reordered_fused", [](Block& block) {
      const int64_t inner = block.linears().back()->weight.size(1);
      block.site("ssm.output").transform.stages.emplace_back(make_hadamard(inner));
    });
    for (int64_t i = 0; i < layers_; ++i) {
      compare_scales(i, passed.seen.at(static_cast<size_t>(i)), *passed.blocks.at(static_cast<size_t>(i)));
      compare_codes(i, *passed.blocks.at(static_cast<size_t>(i)));
    }
  }

  // Gives the block the step's static scales of parts and clusters.
  static void set_scales(Block& block, const Maxima& seen) {
    Statistics statistics;
    for (const auto& [site, channels] : seen.of_channel) {
      statistics[site].channel_abs_max = channels;
      statistics[site].abs_max = channels.max().item<double>();
    }
    statistics.at("ssm.x").channel_mean_abs = seen.level.to(at::kDouble);
    const auto step = make_step("activations", {{"scales", "static"}, {"granularity", "part"}});
    const std::function<bool(const std::string&)> skip_none = [](const std::string&) { return false; };
    Remarks remarks;
    const Tensor unused;
    StepContext context{statistics, unused, unused, skip_none, remarks};
    step->apply(block.sublayers().front(), context);
  }

  // The clusters are those of the model as it is before its heads are put in order.
  void compare_cluster_scales(int64_t i, const Maxima& seen, Block& block, const HeadClusters& clusters) {
    set_scales(block, seen);
    const Tensor ours = block.site("ssm.x").quantizer.scale.index_select(0, clusters.channel_order);
    const Tensor expected = tensors_["act_scale." + layer_name(i) + "x_conv_out"];  // [groups, 4, 4]
    checks_.near("x_conv_out", ours, by_channel(expected, "reorder." + layer_name(i)), 1e-5);
  }

  void compare_scales(int64_t i, const Maxima& seen, Block& block) {
    set_scales(block, seen);
    const auto scale = [&](const char* site) { return block.site(site).quantizer.scale; };
    const auto expect = [&](const char* theirs, const Tensor& ours) {
      const std::string name = "act_scale." + layer_name(i) + theirs;
      checks_.near(name, ours, tensors_[name], 1e-5);
    };
    const int64_t E = seen.level.size(0), states = (scale("conv.input").size(0) - E) / 2;
    expect("in_proj_input", scale("in_proj.input"));
    expect("z", scale("z"));
    expect("x_conv_in", scale("conv.input").slice(0, 0, 1));
    expect("B_conv_in", scale("conv.input").slice(0, E, E + 1));
    expect("C_conv_in", scale("conv.input").slice(0, E + states, E + states + 1));
    expect("dt", scale("ssm.dt"));
    expect("out_proj_input", scale("ssm.output"));
    const Tensor first_of_group = at::arange(0, states, states / groups_);
    expect("B_conv_out", scale("ssm.B").index_select(0, first_of_group));
    expect("C_conv_out", scale("ssm.C").index_select(0, first_of_group));
    compare_state_scales(i, seen);
  }

  // [groups, 4, 4] as one number for each channel, in order.
  Tensor by_channel(const Tensor& of_clusters, const std::string& stored) const {
    const Tensor heads = tensors_[stored + "head_group_sizes"].to(at::kLong);
    const Tensor sizes = tensors_[stored + "dim_group_sizes"].to(at::kLong);
    std::vector<Tensor> rows;
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t c = 0; c < heads.size(1); ++c)
        rows.push_back(
            of_clusters[g][c].repeat_interleave(sizes[g][c]).repeat({heads[g][c].item<int64_t>()}));
    }
    return at::cat(rows);
  }

  // The program has a scale for each channel of the state, of the same maxima: the largest of a cluster's
  // channels is the largest of its states.
  void compare_state_scales(int64_t i, const Maxima& seen) {
    const Tensor largest = std::get<0>(tensors_["act_scale." + layer_name(i) + "ssm_state"].max(-1));
    const Tensor limit = by_channel(largest, "reorder." + layer_name(i));
    const Tensor ours = seen.of_channel.at("ssm.state") / 127;
    checks_.expect((ours <= limit * (1 + 1e-5)).all().item<bool>(), "a state beyond its cluster's scale");
    checks_.near("ssm_state", ours.max().item<double>(), limit.max().item<double>(), 1e-5);
  }

  void compare_codes(int64_t i, Block& block) {
    const auto step =
        make_step("rtn", {{"bits", 8}, {"granularity", "part"}, {"tensors", "all"}, {"sites", "all"}});
    const std::function<bool(const std::string&)> skip_none = [](const std::string&) { return false; };
    Remarks remarks;
    const Tensor unused;
    Statistics statistics;
    StepContext context{statistics, unused, unused, skip_none, remarks};
    step->apply(block.sublayers().front(), context);
    for (const Weight* weight : block.weights()) {
      const std::string name = "int8." + weight->name;
      if (!weight->quantized() || !tensors_.has(name)) continue;
      const Tensor ours = weight->quantized()->codes, theirs = tensors_[name].view_as(ours);
      const Tensor off = (ours.to(at::kLong) - theirs.to(at::kLong)).abs();
      checks_.expect(
          off.max().item<int64_t>() <= 1 && off.ne(0).to(at::kDouble).mean().item<double>() <= 1e-3,
          name + ": codes differ");
      ++compared_;
    }
    checks_.expect(compared_ == 5 * (i + 1), "weights in codes: " + std::to_string(compared_));
    compare_in_proj_scales(i, *block.linears().front()->weight.quantized());
  }

  // The authors' factor of a row: its weight's scale over that of the site it makes.
  void compare_in_proj_scales(int64_t i, const QuantizedTensor& in_proj) {
    const int64_t E = tensors_["channel_stat." + layer_name(i) + "x_conv_out"].size(0);
    const int64_t states = (in_proj.codes.size(0) - 2 * E - heads_) / 2;
    const std::vector<int64_t> rows = {E, E, states, states, heads_};
    const char* const sites[] = {"z", "x_conv_in", "B_conv_in", "C_conv_in", "dt"};
    std::vector<Tensor> outputs;
    for (size_t part = 0; part < rows.size(); ++part)
      outputs.push_back(tensors_["act_scale." + layer_name(i) + sites[part]].expand({rows[part]}));
    const std::string name = "int8." + mixer(i) + "in_proj.b";
    checks_.near(name, in_proj.scale.flatten() / at::cat(outputs), tensors_[name], 1e-5);
  }

  Checks& checks_;
  Json json_;
  CaseTensors tensors_;
  Json config_;
  int64_t heads_, groups_, layers_;
  int64_t compared_ = 0;
};

}  // namespace

void run_mamba2_case(const std::filesystem::path& json_path, Checks& checks) {
  Mamba2Case(json_path, checks).run();
}

}  // namespace ptq::golden
