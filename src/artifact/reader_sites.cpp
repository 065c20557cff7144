// The sites of an artifact: quantizers, scales of smoothing, transforms.
#include "artifact/entry_checks.h"
#include "artifact/reader.h"
#include "artifact/transform_io.h"
#include "ptq/artifact/format.h"

namespace ptq {
namespace {

// Scales of smoothing are one for each channel that linears read.
void check_smooth(Block& block, const Site& site, const std::string& key) {
  if (!site.smooth.defined()) return;
  for (const Linear* linear : block.linears()) {
    const int64_t channels = linear->weight.size(1);
    if (linear->site != site.name || site.smooth.size(0) == channels) continue;
    throw Error(key + ".smooth", "has " + std::to_string(site.smooth.size(0)) + " scales for the " +
                                     std::to_string(channels) + " channels that " + linear->name + " reads");
  }
}

// A transform lies where its inverse is folded into weights: at what linears alone read, or at heads that
// meet in inner products. It must fit them.
void check_transform(Block& block, const Site& site, const std::string& key) {
  if (site.transform.empty()) return;
  const std::string text = "the transform (" + transform_text(site.transform) + ")";
  bool placed = site.head_dim > 0;
  if (site.head_dim > 0 && !site.transform.fits(site.head_dim)) {
    throw Error(key, text + " does not fit heads of " + std::to_string(site.head_dim) + " channels");
  }
  for (const Linear* linear : block.linears()) {
    if (linear->site != site.name) continue;
    placed = !site.shared;
    const int64_t channels = linear->weight.size(1);
    if (!site.transform.fits(channels)) {
      throw Error(key, text + " does not fit the " + std::to_string(channels) + " channels that " +
                           linear->name + " reads");
    }
  }
  if (!placed) throw Error(key, text + " lies at a site that cannot have one");
}

}  // namespace

ActivationQuantizer ArtifactSource::read_quantizer(JsonFields& fields, const Site& site,
                                                   const std::string& key) const {
  const std::string kind = fields.string("quantizer", "");
  const bool rounds = kind == "static" || kind == "dynamic", dynamic = kind == "dynamic";
  if (rounds) fields.at("bits");
  if (dynamic && version_ > 1) {
    for (const char* name : {"symmetric", "clip"}) fields.at(name);
  }
  const auto bits = rounds ? static_cast<int>(fields.integer("bits", 8)) : 8;
  const bool symmetric = dynamic ? fields.boolean("symmetric", true) : true;
  const double clip = dynamic ? fields.number("clip", 1) : 1;
  const int64_t group = dynamic ? fields.integer("group", 0) : 0;
  const int64_t scales = kind == "static" ? fields.integer("channels", 1) : 1;
  const bool known = (rounds || kind == "none") && bits >= 2 && bits <= 8 && clip > 0 && clip <= 1 &&
                     group == (dynamic && version_ > 1 ? site.head_dim : 0) &&
                     (scales == 1 || scales == site.channels);
  if (!known) {
    throw Error(key, "the quantizer " + sites_.at(key).dump() + " is not one this program reads");
  }
  if (kind == "dynamic") return ActivationQuantizer::per_token(bits, symmetric, clip, group);
  if (kind == "none") return {};
  const Tensor scale =
      FloatSource(checkpoint_, at::kCPU).read(key + ".scale", Role::kNorm, {scales}).values();
  check_positive(scale, key + ".scale");
  return ActivationQuantizer::fixed(scale, bits);
}

Tensor ArtifactSource::read_smooth(const std::string& key) const {
  const TensorBytes bytes = checkpoint_.read(key + ".smooth");
  if (bytes.info.dtype != DType::kF32 || bytes.info.shape.size() != 1) {
    throw Error(bytes.info.name, std::string("is ") + dtype_name(bytes.info.dtype) + " " +
                                     shape_text(bytes.info.shape) + " where F32 [channels] is needed");
  }
  const Tensor smooth = as_tensor(bytes).clone();
  check_positive(smooth, bytes.info.name);
  return smooth;
}

void ArtifactSource::configure_sites(Block& block) const {
  for (Site* site : block.sites()) {
    const std::string key = site_key(block.prefix(), site->name);
    if (!sites_.contains(key)) continue;  // earlier versions only
    JsonFields fields(sites_.at(key), "sites." + key);
    site->quantizer = read_quantizer(fields, *site, key);
    if (version_ >= kListsAll) {
      fields.at("transform");
      fields.at("smooth");
      fields.boolean("smooth", false);
    }
    if (is_smooth(key)) site->smooth = read_smooth(key);
    if (version_ == 1 && fields.has("hadamard"))
      site->transform.stages.emplace_back(hadamard_from_json(fields.at("hadamard"), key + ".hadamard"));
    if (version_ > 1 && fields.has("transform"))
      site->transform = read_transform(fields.at("transform"), key, checkpoint_);
    fields.finish(ExitCode::kFailed);
    check_transform(block, *site, key);
    check_smooth(block, *site, key);
  }
}

}  // namespace ptq
