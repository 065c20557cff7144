#include "export/bitsandbytes_source.h"

#include "ptq/base/error.h"
#include "ptq/codec/packing.h"

namespace ptq {
namespace {

constexpr const char* kNestedAbsmax = ".weight.nested_absmax";
constexpr const char* kNestedMap = ".weight.nested_quant_map";
constexpr const char* kAnyState = ".weight.quant_state.";
constexpr int64_t kMapSize = 256;  // of bytes

int64_t blocks_of(const std::vector<int64_t>& shape) {
  return shape.at(0) * (shape.at(1) / kNf4Group);
}

int64_t nested_blocks(const Nf4State& state) {
  return (blocks_of(state.shape) + state.nested_blocksize - 1) / state.nested_blocksize;
}

// Two of a byte change places.
Tensor swapped(const Tensor& codes) {
  return codes.unflatten(1, {-1, 2}).flip(2).flatten(1);
}

}  // namespace

WeightScheme nf4_scheme() {
  WeightScheme scheme;
  scheme.bits = 4;
  scheme.granularity = Granularity::kGroup;
  scheme.group = kNf4Group;
  scheme.format = NumberFormat::kNf4;
  return scheme;
}

Tensor nf4_map() {
  QuantizedTensor q;
  q.codes = at::arange(16, at::kLong).to(at::kChar).unsqueeze(0);
  q.scale = at::ones({1, 1});
  q.scheme = nf4_scheme();
  return dequantize(q).squeeze(0);
}

Tensor pack_nf4(const Tensor& codes) {
  return pack_codes(swapped(codes), nf4_scheme()).reshape({-1, 1});
}

Tensor unpack_nf4(const Tensor& bytes, const std::vector<int64_t>& shape) {
  return swapped(unpack_codes(bytes.reshape({shape.at(0), shape.at(1) / 2}), shape[1], nf4_scheme()));
}

BitsandbytesSource::BitsandbytesSource(const Checkpoint& stored, at::Device device)
    : CodedSource(stored, device, {kWeight, kAbsmax, kQuantMap, kQuantState, kNestedAbsmax, kNestedMap}) {
  expect_nf4_config(stored.config().at("quantization_config"), stored.path() + ": quantization_config");
  for (const TensorInfo& info : stored.tensors()) {
    const std::string linear = without(info.name, kQuantState);
    if (linear.empty() && info.name.find(kAnyState) != std::string::npos)
      throw Error(info.name, "is of a number format that is not read", "NF4");
    if (!linear.empty()) add_linear(linear);
    if (const std::string of_scales = without(info.name, kAbsmax); !of_scales.empty())
      part(of_scales, kQuantState);
  }
  add_floats();
}

void BitsandbytesSource::add_linear(const std::string& linear) {
  const TensorInfo& info = part(linear, kQuantState);
  if (info.dtype != DType::kU8 || info.shape.size() != 1)
    throw Error(info.name, std::string("is ") + dtype_name(info.dtype) + " " + shape_text(info.shape) +
                               "; it is text in U8 of one dimension");
  const TensorBytes text = checkpoint().read(info.name);
  const Nf4State state =
      read_nf4_state({reinterpret_cast<const char*>(text.bytes.data()), text.bytes.size()}, info.name);
  expect_forms(linear, state);
  add(linear, state.shape, nf4_scheme());
  states_[linear] = state;
}

void BitsandbytesSource::expect_forms(const std::string& linear, const Nf4State& state) const {
  const std::vector<int64_t>& shape = state.shape;
  const int64_t blocks = blocks_of(shape);
  const bool nested = state.nested_blocksize > 0;
  expect_form(part(linear, kWeight), DType::kU8, {shape[0] * shape[1] / 2, 1});
  expect_form(part(linear, kAbsmax), nested ? DType::kU8 : DType::kF32, {blocks});
  expect_form(part(linear, kQuantMap), DType::kF32, {16});
  if (!nested) return;
  expect_form(part(linear, kNestedAbsmax), DType::kF32, {nested_blocks(state)});
  expect_form(part(linear, kNestedMap), DType::kF32, {kMapSize});
}

// float32 arithmetic, as the library's.
Tensor BitsandbytesSource::read_nested_scales(const std::string& linear, const Nf4State& state) const {
  const auto read = [&](const char* part) { return as_tensor(checkpoint().read(linear + part)).clone(); };
  const Tensor values = read(kNestedMap).index({read(kAbsmax).to(at::kLong)});
  const Tensor outer =
      read(kNestedAbsmax).repeat_interleave(state.nested_blocksize).slice(0, 0, values.size(0));
  Tensor scales = values * outer + state.nested_offset;
  if (!at::isfinite(scales).all().item<bool>())
    throw Error(linear + kAbsmax, "stands for scales that are not finite");
  return scales;
}

QuantizedTensor BitsandbytesSource::read_codes(const std::string& linear, const WeightScheme& scheme,
                                               const std::vector<int64_t>& shape) const {
  const Nf4State& state = states_.at(linear);
  const Tensor map = as_tensor(checkpoint().read(linear + kQuantMap));
  if (!at::equal(map, nf4_map()))
    throw Error(linear + kQuantMap, "is not the table of NF4", "a checkpoint that bitsandbytes wrote");
  QuantizedTensor q;
  q.scheme = scheme;
  const TensorBytes bytes = checkpoint().read(linear + kWeight);
  q.codes = unpack_nf4(as_tensor(bytes), shape);
  checkpoint().drop(bytes.info.name);
  const std::vector<int64_t> scales = scheme.scale_shape(shape.at(0), shape.at(1));
  q.scale = state.nested_blocksize > 0
                ? read_nested_scales(linear, state)
                : read_scales(checkpoint(), linear + kAbsmax, {scales[0] * scales[1]}, /*zero_allowed=*/true);
  q.scale = q.scale.reshape(scales);
  return q;
}

OpenModel open_bitsandbytes(const std::string& path, const CheckpointOptions& options, at::Device device) {
  std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path, options);
  auto source = std::make_unique<BitsandbytesSource>(*checkpoint, device);
  return open_coded(std::move(checkpoint), std::move(source));
}

}  // namespace ptq
