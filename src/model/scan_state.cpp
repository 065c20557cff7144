#include "model/scan_state.h"

#include "model/on_device.h"
#include "model/reading.h"

namespace ptq {
namespace {

// [batch, N, channels], whose last dimension has a scale each.
Tensor by_channel(const Tensor& h) {
  const Tensor states = h.transpose(1, 2);
  return h.dim() == 4 ? states.flatten(2) : states;
}

Tensor for_scan(const Tensor& states, at::IntArrayRef shape) {
  const Tensor parts = shape.size() == 4 ? states.unflatten(2, {shape[1], shape[3]}) : states;
  return parts.transpose(1, 2).contiguous();
}

bool holds_codes(const Site& site) {
  return site.quantizer.kind == ActivationQuantizer::Kind::kStatic;
}

}  // namespace

Site make_state_site(int64_t channels) {
  Site site = make_site("ssm.state", kStateSite);
  site.channels = channels;
  return site;
}

Tensor first_scan_state(const Site& site, at::IntArrayRef shape, const at::TensorOptions& options) {
  const Tensor h = at::zeros(shape, options);
  return holds_codes(site) ? by_channel(h).to(at::kChar).contiguous() : h;
}

Tensor scan_state(const Site& site, const Tensor& stored, at::IntArrayRef shape,
                  const at::TensorOptions& options, const Observer* observer) {
  if (!stored.defined()) return observer != nullptr ? at::zeros(shape, options) : Tensor();
  if (!holds_codes(site)) return stored;
  const Activation codes{.codes = stored, .scale = on_device(site.quantizer.scale, stored.device())};
  return for_scan(codes.dequantize(), shape);
}

void keep_scan_state(const Site& site, const Tensor& h, Tensor* stored, Observer* observer) {
  if (!h.defined()) return;
  const bool rounds = stored != nullptr && site.quantizer.kind != ActivationQuantizer::Kind::kNone;
  if (observer != nullptr) observer->observe(site, by_channel(h));
  if (!rounds) return;
  if (holds_codes(site)) {
    *stored = site.quantizer(by_channel(h)).codes;
  } else {
    stored->copy_(for_scan(site.quantizer.rounded(by_channel(h)), h.sizes()));
  }
}

}  // namespace ptq
