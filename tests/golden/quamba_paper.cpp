// Cases of sort g1: a small Mamba taken through the program's own steps, against the authors' scales, codes
// and logits. The tolerances are those that the cases state in words.
#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include "ptq/calibration/site_sums.h"
#include "ptq/calibration/stream.h"
#include "ptq/checkpoint/checkpoint.h"
#include "ptq/step/rewrites.h"
#include "ptq/step/step.h"
#include "quamba_cases.h"

namespace ptq::golden {
namespace {

// The authors' name of a site, ours.
constexpr std::pair<const char*, const char*> kSites[] = {
    {"mamba_in_quant", "in_proj.input"},
    {"conv_in_quant", "conv.input"},
    {"z_quant", "z"},
    {"u_quant", "ssm.x"},
    {"dt_proj_in_quant", "dt_proj.input"},
    {"dt_quant", "ssm.dt"},
    {"B_quant", "ssm.B"},
    {"C_quant", "ssm.C"},
    {"ssm_out_quant", "ssm.output"},
};

struct Variant {
  const char* name;
  bool rotated;
  const char* percentile_key;  // in the case's "percentile"; null: abs-max
};

constexpr Variant kVariants[] = {
    {"static", false, nullptr},
    {"percentile", false, "alpha"},
    {"hadamard", true, nullptr},
    {"quamba", true, "alpha"},
    {"quamba_alpha", true, "alpha_of_variant_quamba_alpha"},
};

// The tensors `model.*` of a case, without that prefix.
class ModelTensors : public WeightSource {
 public:
  ModelTensors(const Checkpoint& file, Json config)
      : checkpoint_(file), floats_(file, at::kCPU), config_(std::move(config)) {}

  const TensorInfo* find(const std::string& name) const override { return checkpoint_.find(kPrefix + name); }
  Weight read(const std::string& name, Role role, const std::vector<int64_t>& shape) const override {
    Weight weight = floats_.read(kPrefix + name, role, shape);
    weight.name = name;
    return weight;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const TensorInfo& info : checkpoint_.tensors()) {
      if (info.name.starts_with(kPrefix)) names.push_back(info.name.substr(kPrefix.size()));
    }
    return names;
  }
  const Json& config() const override { return config_; }
  bool tied(const std::string&, const std::string&) const override { return false; }
  at::Device device() const override { return at::kCPU; }

 private:
  inline static const std::string kPrefix = "model.";
  const Checkpoint& checkpoint_;
  FloatSource floats_;
  Json config_;
};

// Keeps what each site sees before it is rounded.
struct Recorder : Observer {
  void observe(const Site& site, const Tensor& x) override { values[site.name] = x.clone(); }
  std::map<std::string, Tensor> values;
};

std::unique_ptr<Step> make_step(const char* name, const Json& options) {
  JsonFields fields(options, name);
  return find_step(name, "golden").make(fields);
}

class PaperCase {
 public:
  PaperCase(const std::filesystem::path& json_path, Checks& checks)
      : checks_(checks),
        json_(read_json_file(json_path.string())),
        file_(open_checkpoint(std::filesystem::path(json_path).replace_extension(".safetensors").string())),
        source_(*file_, {{"layer_norm_epsilon", json_.at("model").at("norm_eps")}}),
        model_(find_architecture(source_, json_path.string()).make(source_)) {}

  void run() {
    const Tensor reference = tensor("logits.fp32");
    const Tensor logits = logits_of(float_blocks());
    const double error = (logits - reference).norm().item<double>() / reference.norm().item<double>();
    checks_.expect(error <= 1e-5, "fp32 logits differ by a relative " + std::to_string(error));
    for (const Variant& variant : kVariants) {
      if (file_->find(std::string("logits.") + variant.name) != nullptr) run_variant(variant);
    }
  }

 private:
  using Blocks = std::vector<std::unique_ptr<Block>>;

  Tensor tensor(const std::string& name) const { return as_tensor(file_->read(name)).clone(); }

  // The matrix that the authors used: a base of the case (x) Sylvester's matrix.
  Hadamard hadamard() {
    const Tensor H = tensor("hadamard.H").to(at::kFloat);  // [n, n]
    const bool has_base = file_->find("hadamard.H_K") != nullptr;
    const Tensor base = has_base ? tensor("hadamard.H_K").to(at::kFloat) : at::ones({1, 1});
    const Hadamard result{H.size(0), H.size(0), base, "golden"};
    const double n = static_cast<double>(H.size(0));
    const Tensor applied = result.apply(at::eye(H.size(0))).t() * std::sqrt(n);  // row i of apply(1) is H e_i
    checks_.near("hadamard.H", applied, H, 1e-5);
    return result;
  }

  Blocks float_blocks() const {
    Blocks blocks;
    for (int64_t i = 0; i < model_->num_blocks(); ++i) blocks.push_back(model_->load_block(i));
    return blocks;
  }

  // `seen`: a recorder for each block, or null.
  Tensor logits_of(const Blocks& blocks, std::vector<Recorder>* seen = nullptr) const {
    Tensor hidden = model_->embed(tensor("eval_ids"));
    for (size_t i = 0; i < blocks.size(); ++i)
      hidden = blocks[i]->forward(hidden, nullptr, seen == nullptr ? nullptr : &seen->at(i));
    return model_->logits(hidden);
  }

  // Each block as a run of the program takes it: rewritten, observed on the float stream, rounded.
  Blocks quantize(const Variant& variant) {
    const auto rtn = make_step("rtn", {{"bits", 8}, {"granularity", "tensor"}, {"tensors", "all"}});
    const Json percentile =
        variant.percentile_key == nullptr ? Json(1) : json_.at("percentile").at(variant.percentile_key);
    const auto activations = make_step("activations", {{"scales", "static"},
                                                       {"sites", "all"},
                                                       {"percentile_site", "ssm.x"},
                                                       {"percentile", percentile},
                                                       {"observer", "moving"}});
    const Tensor ids = tensor("calib_ids");
    Tensor hidden = embed_windows(*model_, ids);
    const std::function<bool(const std::string&)> skip_none = [](const std::string&) { return false; };
    Remarks remarks;
    Blocks blocks = float_blocks();
    for (const auto& block : blocks) {
      for (Sublayer& sublayer : block->sublayers()) {
        Statistics none;
        if (variant.rotated) append_op(sublayer, "ssm.output", hadamard(), none);
        const Tensor inputs = hidden.clone();
        StatisticsObserver observer(sublayer.prefix, activations->needs(sublayer),
                                    Batches::of(ids.size(0), ids.size(1)));
        advance(sublayer, hidden, &observer);
        Statistics statistics = observer.finish();
        StepContext context{statistics, inputs, hidden, skip_none, remarks};
        rtn->apply(sublayer, context);
        activations->apply(sublayer, context);
      }
    }
    return blocks;
  }

  void compare_scales(const Variant& variant, Blocks& blocks) {
    for (size_t i = 0; i < blocks.size(); ++i) {
      for (const auto& [theirs, ours] : kSites) {
        const std::string name = std::string(variant.name) + ".layers." + std::to_string(i) + "." + theirs;
        checks_.near(name, blocks[i]->site(ours).quantizer.scale, tensor("act_scale." + name), 1e-5);
      }
    }
  }

  void compare_weights(const Variant& variant, Blocks& blocks) {
    for (const auto& block : blocks) {
      size_t compared = 0;
      for (const Weight* weight : block->weights()) {
        if (!weight->quantized()) continue;
        ++compared;
        const bool rotated = variant.rotated && file_->find("code.had." + weight->name) != nullptr;
        const std::string name = (rotated ? "had." : "") + weight->name;
        const std::string what = std::string(variant.name) + " " + name;
        checks_.near(what + " scale", weight->quantized()->scale, tensor("wscale." + name), 1e-6);
        if (!rotated) {
          checks_.equal(what + " codes", weight->quantized()->codes, tensor("code." + name));
        } else {
          compare_codes(what + " codes", weight->quantized()->codes, tensor("code." + name), 0.999, 1);
        }
      }
      checks_.expect(compared == 7, block->prefix() + ": " + std::to_string(compared) + " weights in codes");
    }
  }

  // At least the fraction `equal` is the same, and nothing differs by more than `largest` (if not negative).
  void compare_codes(const std::string& what, const Tensor& ours, const Tensor& expected, double equal,
                     int64_t largest) {
    const Tensor difference = (ours.to(at::kLong) - expected.to(at::kLong)).abs();
    const double same = difference.eq(0).to(at::kDouble).mean().item<double>();
    const auto worst = difference.max().item<int64_t>();
    checks_.expect(same >= equal, what + ": a fraction of " + std::to_string(same) + " is equal");
    if (largest >= 0)
      checks_.expect(worst <= largest, what + ": codes differ by up to " + std::to_string(worst));
  }

  // Codes at every site for the first sequence.
  void compare_activation_codes(const Variant& variant, Blocks& blocks) {
    std::vector<Recorder> seen(blocks.size());
    logits_of(blocks, &seen);
    int64_t all = 0;
    double same = 0;
    for (size_t i = 0; i < blocks.size(); ++i) {
      for (const auto& [theirs, ours] : kSites) {
        const Site& site = blocks[i]->site(ours);
        const std::string name =
            "codes." + std::string(variant.name) + ".layers." + std::to_string(i) + "." + theirs;
        const Tensor expected = tensor(name);
        const Tensor codes = site.quantizer(seen[i].values.at(ours).slice(0, 0, 1)).codes;
        if (i == 0) compare_codes(name, codes, expected, 0.995, 1);
        all += expected.numel();
        same += codes.to(at::kLong).eq(expected.to(at::kLong)).sum().item<double>();
      }
    }
    const double fraction = same / static_cast<double>(all);
    checks_.expect(fraction >= 0.95,
                   "activation codes: a fraction of " + std::to_string(fraction) + " is equal");
    std::printf("  %s: %.3f %% of %lld activation codes equal\n", variant.name, 100 * fraction,
                static_cast<long long>(all));
  }

  void run_variant(const Variant& variant) {
    Blocks blocks = quantize(variant);
    compare_scales(variant, blocks);
    compare_weights(variant, blocks);
    const std::string name = variant.name;
    const std::string codes = "codes." + name + ".layers.0.u_quant";
    if (file_->find(codes) != nullptr) compare_activation_codes(variant, blocks);

    const Tensor logits = logits_of(blocks);
    const double against_theirs = sqnr_db(tensor("logits." + name), logits);
    const double against_float = sqnr_db(tensor("logits.fp32"), logits);
    const auto stated = json_.at("sqnr_db").at(name).get<double>();
    std::printf("  %s: %.1f dB against the stored logits, %.3f dB against fp32 (stored: %.3f)\n",
                variant.name, against_theirs, against_float, stated);
    checks_.expect(against_theirs >= 30, name + ": logits at " + std::to_string(against_theirs) + " dB");
    checks_.expect(std::abs(against_float - stated) <= 0.5, name + ": " + std::to_string(against_float) +
                                                                " dB from fp32 where the authors have " +
                                                                std::to_string(stated));
  }

  Checks& checks_;
  Json json_;
  std::unique_ptr<Checkpoint> file_;
  ModelTensors source_;
  std::unique_ptr<Model> model_;
};

}  // namespace

void run_paper_case(const std::filesystem::path& json_path, Checks& checks) {
  PaperCase(json_path, checks).run();
}

}  // namespace ptq::golden
