#include "export/gguf/conversion.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "export/gguf/rope.h"
#include "ptq/base/error.h"
#include "ptq/base/interrupt.h"
#include "ptq/base/memory.h"

namespace ptq {
namespace {

constexpr int64_t kValuesAtATime = int64_t{1} << 20;  // that are packed, read back and compared

// llama.cpp's operators take these in float32 only.
bool must_be_float32(const Weight& weight) {
  return weight.role != Role::kLinear && weight.role != Role::kEmbedding && weight.role != Role::kHead;
}

// What llama-quantize takes where rows do not fit a block of 256 values, or of 32.
const GgmlTypeEntry& fitting(const GgmlTypeEntry& wanted, int64_t in) {
  if (in % wanted.block == 0) return wanted;
  const GgmlType next = wanted.type == GgmlType::kQ4_K   ? GgmlType::kQ5_0
                        : wanted.type == GgmlType::kQ5_K ? GgmlType::kQ5_1
                        : wanted.type == GgmlType::kQ6_K ? GgmlType::kQ8_0
                                                         : GgmlType::kF16;
  return fitting(ggml_type(next), in);
}

const GgmlTypeEntry& stored_type(const Weight& weight) {
  return ggml_type(weight.stored == at::kHalf       ? GgmlType::kF16
                   : weight.stored == at::kBFloat16 ? GgmlType::kBF16
                                                    : GgmlType::kF32);
}

// Of codes that no type holds as they are: the smallest that costs them little.
const GgmlTypeEntry& close_type(const WeightScheme& scheme, int64_t in) {
  if (scheme.is_linear() && scheme.symmetric && scheme.bits <= 4 && in % 32 == 0)
    return ggml_type(GgmlType::kQ4_0);
  if (!scheme.is_linear() && in % 256 == 0) return ggml_type(GgmlType::kQ6_K);
  return ggml_type(GgmlType::kQ8_0);
}

bool is_hadamard_only(const Transform& transform) {
  return std::ranges::all_of(
      transform.stages, [](const TransformOp& stage) { return std::holds_alternative<Hadamard>(stage); });
}

// The transform of a linear's site, which the weight is freed of; nullptr if there is none.
const Transform* transform_of(Block& block, const Linear& linear) {
  const Site& site = block.site(linear.site);
  if (site.transform.empty()) return nullptr;
  if (is_hadamard_only(site.transform)) return &site.transform;
  throw Error(block.prefix() + ".sites." + site.name,
              "has an online transform (" + transform_text(site.transform) +
                  "), which no runtime of GGUF runs, and whose gain is lost if it is undone",
              "an artifact of --method gptq or smoothquant");
}

// [rows, columns], of a vector one row.
Tensor as_rows(const Tensor& values) {
  return values.dim() == 1 ? values.unsqueeze(0) : values.flatten(1);
}

double squares(const Tensor& values) {
  return values.to(at::kDouble).square().sum().item<double>();
}

void expect_held(const Tensor& stored, const std::string& name, const GgmlTypeEntry& type) {
  if (at::isfinite(stored).all().item<bool>()) return;
  throw Error(name, std::string("has values that ") + type.name + " does not hold: its scales are float16",
              type.is_float() ? "--outtype bf16 or f32" : "--type bf16 or f32");
}

}  // namespace

double GgufTally::sqnr_db() const {
  return noise > 0 ? 10 * std::log10(signal / noise) : std::numeric_limits<double>::infinity();
}

GgufConversion::GgufConversion(const OpenModel& open, const GgufTypes& types)
    : open_(open),
      types_(types),
      architecture_(find_gguf_architecture(open)),
      config_(whole_config(open, architecture_)) {
  visit([this](const Weight& weight, const GgufPlace& place, const Transform* undo) {
    headers_.push_back({place.name, gguf_shape(place.row->change, weight.sizes().vec(), config_),
                        form_of(weight, undo).type->type});
  });
  if (const Tensor factors = rope_factors(config_); factors.defined())
    headers_.push_back({kRopeFactors, factors.sizes().vec(), GgmlType::kF32});
  for (int64_t i = 0; i < open.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = open.model->load_block(i);
    for (const Site* site : block->sites())
      sites_that_round_ += site->quantizer.kind != ActivationQuantizer::Kind::kNone ? 1 : 0;
    for (const Linear* linear : block->linears()) {
      if (linear->correction) rank_ = std::max(rank_, linear->correction->rank());
      undone_ += block->site(linear->site).transform.empty() ? 0 : 1;
    }
  }
}

void GgufConversion::visit(const Visit& visit) const {
  const auto place_of = [this](const Weight& weight) {
    GgufPlace place = gguf_place(architecture_, weight.name);
    if (place.row != nullptr) return place;
    throw Error(weight.name, std::string("has no place in a GGUF of the architecture ") + architecture_.name,
                "another --format");
  };
  for (int64_t i = 0; i < open_.model->num_blocks(); ++i) {
    throw_if_interrupted();
    const std::unique_ptr<Block> block = open_.model->load_block(i);
    std::map<std::string, const Transform*> transforms;
    for (const Linear* linear : block->linears())
      transforms[linear->weight.name] = transform_of(*block, *linear);
    for (const Weight* weight : block->weights()) {
      const auto found = transforms.find(weight->name);
      visit(*weight, place_of(*weight), found == transforms.end() ? nullptr : found->second);
    }
    return_free_memory();
  }
  for (const Weight* weight : open_.model->outer_weights()) visit(*weight, place_of(*weight), nullptr);
}

GgufConversion::Form GgufConversion::form_of(const Weight& weight, const Transform* undo) const {
  if (must_be_float32(weight)) return {&ggml_type(GgmlType::kF32)};
  const int64_t in = weight.size(1);
  const QuantizedTensor* q = weight.quantized();
  const bool is_linear = weight.role == Role::kLinear;
  GgmlType native{};
  if (q != nullptr && undo == nullptr && holds_codes(q->scheme, in, native)) {
    const GgmlTypeEntry& own = ggml_type(native);
    if (types_.linears == nullptr || types_.linears == &own) return {&own, /*in_codes=*/true};
  }
  const GgmlTypeEntry* wanted =
      q != nullptr || (is_linear && !open_.quantized) ? types_.linears : types_.floats;
  if (wanted == nullptr && q != nullptr) wanted = &close_type(q->scheme, in);
  if (wanted == nullptr && !open_.quantized && !is_linear && types_.linears != nullptr) {
    // As llama-quantize: embedding and head of a model whose linears are rounded are not left in float.
    wanted = types_.linears->is_float() ? types_.linears : &ggml_type(GgmlType::kQ8_0);
  }
  if (wanted == nullptr) wanted = &stored_type(weight);
  const GgmlTypeEntry& fits = fitting(*wanted, in);
  return {&fits, false, &fits != wanted};
}

Tensor GgufConversion::values_of(const Weight& weight, const GgufPlace& place, const Transform* undo) const {
  Tensor values = weight.values().cpu();
  if (undo != nullptr) values = undo->apply_inverse(values);
  const GgufChange change = place.row->change;
  if (change == GgufChange::kDecay || change == GgufChange::kHeadDecay) values = values.exp().neg();
  if (change == GgufChange::kGain) values = values + 1;
  values = as_rows(values);
  const Tensor rows = gguf_rows(place.row->change, config_, weight.size(0), /*inverse=*/false);
  // A bias is one row, whose columns follow the weight's rows.
  return rows.defined() ? values.index_select(weight.sizes().size() == 1 ? 1 : 0, rows) : values;
}

Tensor GgufConversion::packed_codes(const Weight& weight, const GgufPlace& place, GgmlType type) const {
  const Tensor bytes = pack_codes_ggml(*weight.quantized(), type);
  const Tensor rows = gguf_rows(place.row->change, config_, weight.size(0), /*inverse=*/false);
  return rows.defined() ? bytes.index_select(0, rows) : bytes;
}

void GgufConversion::convert_weight(const Weight& weight, const GgufPlace& place, const Transform* undo,
                                    const Take& take) {
  const Form form = form_of(weight, undo);
  const GgmlTypeEntry& type = *form.type;
  const Tensor values = values_of(weight, place, undo);
  const Tensor codes = form.in_codes ? packed_codes(weight, place, type.type) : Tensor();
  GgufTally part;  // of this tensor
  const int64_t rows = std::max<int64_t>(1, kValuesAtATime / values.size(1));
  for (int64_t first = 0; first < values.size(0); first += rows) {
    const int64_t count = std::min(rows, values.size(0) - first);
    const Tensor x = values.narrow(0, first, count);
    const Tensor bytes = form.in_codes ? codes.narrow(0, first, count) : pack_ggml(x, type.type);
    const Tensor stored = unpack_ggml(bytes, type.type);
    expect_held(stored, weight.name, type);
    part.bytes += static_cast<int64_t>(bytes.nbytes());
    part.signal += squares(x);
    part.noise += at::equal(stored, x) ? 0 : squares(x - stored);
    take(bytes);
  }
  GgufTally& tally = tallies_[type.name];
  ++tally.tensors;
  tally.bytes += part.bytes;
  tally.other_rows += form.other_rows ? 1 : 0;
  if (part.noise == 0) {
    ++tally.exact;
  } else {
    tally.signal += part.signal;
    tally.noise += part.noise;
  }
}

const GgmlTypeEntry& GgufConversion::main_type() const {
  std::map<GgmlType, int64_t> values;
  for (const GgufTensorHeader& header : headers_) {
    int64_t count = 1;
    for (const int64_t size : header.shape) count *= size;
    // Blocks name a file, however large its embedding is.
    values[header.type] += ggml_type(header.type).is_float() ? count / 1024 : count;
  }
  return ggml_type(
      std::ranges::max_element(values, {}, [](const auto& entry) { return entry.second; })->first);
}

void GgufConversion::convert(const Take& take) {
  visit([&](const Weight& weight, const GgufPlace& place, const Transform* undo) {
    convert_weight(weight, place, undo, take);
  });
  if (const Tensor factors = rope_factors(config_); factors.defined()) take(factors);
}

void GgufConversion::visit_corrections(
    const std::function<void(const Linear&, const Transform*)>& visit) const {
  for (int64_t i = 0; i < open_.model->num_blocks(); ++i) {
    throw_if_interrupted();
    const std::unique_ptr<Block> block = open_.model->load_block(i);
    for (const Linear* linear : block->linears()) {
      if (linear->correction) visit(*linear, transform_of(*block, *linear));
    }
  }
}

std::vector<GgufTensorHeader> GgufConversion::adapter_tensors() const {
  std::vector<GgufTensorHeader> headers;
  visit_corrections([&](const Linear& linear, const Transform*) {
    const std::string name = gguf_place(architecture_, linear.weight.name).name;
    headers.push_back({name + ".lora_a", {rank_, linear.weight.size(1)}, GgmlType::kF32});
    headers.push_back({name + ".lora_b", {linear.weight.size(0), rank_}, GgmlType::kF32});
  });
  return headers;
}

void GgufConversion::convert_adapter(const Take& take) const {
  visit_corrections([&](const Linear& linear, const Transform* undo) {
    const LowRank& correction = *linear.correction;
    const GgufPlace place = gguf_place(architecture_, linear.weight.name);
    // llama.cpp scales each product by alpha / rank, with one alpha: zeros make all ranks the same.
    const int64_t missing = rank_ - correction.rank();
    const Tensor A = undo == nullptr ? correction.A : undo->apply_inverse(correction.A);
    const Tensor rows = gguf_rows(place.row->change, config_, correction.B.size(0), /*inverse=*/false);
    take(at::constant_pad_nd(A.cpu(), {0, 0, 0, missing}));
    const Tensor B = at::constant_pad_nd(correction.B.cpu(), {0, missing});
    take(rows.defined() ? B.index_select(0, rows) : B);
  });
}

}  // namespace ptq
