// Weights in codes, decoded one row at a time by format.h's page: value = (code - zero) * scale.
//
// A number format is one place here: kSchemes says which entries of quantization_config it may have (in
// config.cpp), read_forms() which tensors it consists of, check_values() and code() what they may
// hold. A low-rank term beside the weight is not part of it: what is within half a step of the source is the
// rounded weight.
#include <algorithm>
#include <array>
#include <cmath>

#include "ptq/artifact/format.h"
#include "verify/parts.h"

namespace ptq {
namespace {

// The values of NF4's codes.
constexpr std::array<float, 16> kNf4 = {
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

const ArtifactTensor* find_form(const std::map<std::string, ArtifactTensor>& tensors, const std::string& name,
                                const std::string& dtype, const std::vector<int64_t>& shape,
                                std::vector<std::string>& used, Findings& findings) {
  const ArtifactTensor* tensor = find_tensor(tensors, name, used, findings);
  if (tensor == nullptr || (tensor->dtype == dtype && tensor->shape == shape)) return tensor;
  findings.add(name, "is " + tensor->dtype + " " + shape_text(tensor->shape) + " where the scheme has " +
                         dtype + " " + shape_text(shape));
  return nullptr;
}

}  // namespace

int64_t packed_bytes(int64_t columns, int bits) {
  return (columns * bits + 7) / 8;
}

std::optional<WeightDecoder> WeightDecoder::open(Subject& subject, const std::string& name,
                                                 const Json& scheme, const std::vector<int64_t>& shape,
                                                 std::vector<std::string>& used) {
  WeightDecoder decoder;
  if (!decoder.read_forms(subject.tensors, name, scheme, shape, used, subject.findings)) return std::nullopt;
  decoder.check_values(subject.findings);
  return decoder;
}

std::optional<WeightDecoder> WeightDecoder::reopen(const Subject& subject, const std::string& name,
                                                   const Json& scheme, const std::vector<int64_t>& shape) {
  WeightDecoder decoder;
  Findings findings;
  std::vector<std::string> used;
  if (!decoder.read_forms(subject.tensors, name, scheme, shape, used, findings)) return std::nullopt;
  return decoder;
}

bool WeightDecoder::read_forms(const std::map<std::string, ArtifactTensor>& tensors, const std::string& name,
                               const Json& scheme, const std::vector<int64_t>& shape,
                               std::vector<std::string>& used, Findings& findings) {
  rows_ = shape.empty() ? 1 : shape[0];
  columns_ = 1;
  for (size_t i = 1; i < shape.size(); ++i) columns_ *= shape[i];
  bits_ = scheme.at("bits").get<int>();
  const std::string granularity = scheme.at("granularity").get<std::string>();
  per_tensor_ = granularity == "tensor";
  if (granularity == "group") group_ = scheme.value("group", int64_t{0});
  const std::string format = scheme.value("format", "integer");
  if (format != "integer") format_ = format == "mxint" ? Format::kMxint : Format::kNf4;
  packed_ = bits_ <= 4 || format_ == Format::kMxint;
  const bool symmetric = scheme.at("symmetric").get<bool>();
  const bool grouped = granularity == "group";
  const bool consistent = grouped == scheme.contains("group") && packed_ == scheme.contains("shape") &&
                          (!packed_ || (shape.size() == 2 && scheme.at("shape") == Json(shape))) &&
                          (format_ == Format::kInteger || (grouped && symmetric)) &&
                          (format_ != Format::kNf4 || bits_ == 4) &&
                          (!scheme.contains("scales") || (grouped && format_ == Format::kInteger));
  if (!consistent) {
    findings.add(name,
                 "the scheme " + scheme.dump() + " does not fit a weight of shape " + shape_text(shape));
    return false;
  }
  codes_ = packed_ ? find_form(tensors, name + kPackedSuffix, "U8", {rows_, packed_bytes(columns_, bits_)},
                               used, findings)
                   : find_form(tensors, name, "I8", shape, used, findings);
  std::vector<int64_t> scales = {1};
  if (granularity == "channel") scales = {rows_, 1};
  if (grouped) scales = {rows_, (columns_ + group_ - 1) / group_};
  if (format_ == Format::kMxint) {
    scales_ = find_form(tensors, name + kExponentSuffix, "U8", scales, used, findings);
  } else {
    const bool half = grouped && format_ == Format::kInteger && !scheme.contains("scales");
    const char* dtype = half ? "F16" : "F32";
    scales_ = find_form(tensors, name + kScaleSuffix, dtype, scales, used, findings);
  }
  if (!symmetric) zeros_ = find_form(tensors, name + kZeroSuffix, "U8", scales, used, findings);
  return codes_ != nullptr && scales_ != nullptr && (symmetric || zeros_ != nullptr);
}

int WeightDecoder::field(int64_t r, int64_t c) const {
  const int64_t bit = c * bits_, byte = bit / 8, shift = bit % 8;
  const std::byte* row = codes_->data() + r * packed_bytes(columns_, bits_);
  auto word = static_cast<unsigned>(row[byte]);
  if (shift + bits_ > 8) word |= static_cast<unsigned>(row[byte + 1]) << 8;
  return static_cast<int>((word >> shift) & ((1U << bits_) - 1));
}

// Integers lie around 0, whatever they are stored as; MXINT has its sign on top, NF4 counts the table's
// values.
int WeightDecoder::code(int64_t r, int64_t c) const {
  if (!packed_) return static_cast<int8_t>(codes_->data()[r * columns_ + c]);
  const int bits = field(r, c), top = 1 << (bits_ - 1);
  if (format_ == Format::kNf4) return bits;
  if (format_ == Format::kMxint) return bits >= top ? -(bits - top) : bits;
  return bits - top;
}

float WeightDecoder::scale(int64_t index) const {
  if (format_ == Format::kMxint) {
    return std::ldexp(1.0F, static_cast<int>(scales_->data()[index]) - 127 - (bits_ - 2));
  }
  return float_at(scales_->dtype, scales_->data() + index * (scales_->dtype == "F16" ? 2 : 4));
}

// The outermost codes of MXINT also stand for what lies up to a whole step beyond them.
float WeightDecoder::step_of(int code) const {
  if (format_ == Format::kMxint) return std::abs(code) == (1 << (bits_ - 1)) - 1 ? 2.0F : 1.0F;
  if (format_ != Format::kNf4) return 1;
  const float below = code > 0 ? kNf4[static_cast<size_t>(code)] - kNf4[static_cast<size_t>(code) - 1] : 0;
  const float above = code < 15 ? kNf4[static_cast<size_t>(code) + 1] - kNf4[static_cast<size_t>(code)] : 0;
  return std::max(below, above);
}

int WeightDecoder::zero(int64_t index) const {
  return zeros_ == nullptr ? 0 : static_cast<int>(zeros_->data()[index]) - (1 << (bits_ - 1));
}

int64_t WeightDecoder::scale_index(int64_t r, int64_t c) const {
  if (per_tensor_) return 0;
  return group_ > 0 ? r * ((columns_ + group_ - 1) / group_) + c / group_ : r;
}

void WeightDecoder::row(int64_t r, float* values, float* steps) const {
  for (int64_t c = 0; c < columns_; ++c) {
    const int64_t index = scale_index(r, c);
    const float unit = scale(index);
    const int q = code(r, c);
    steps[c] = unit * step_of(q);
    values[c] =
        unit * (format_ == Format::kNf4 ? kNf4[static_cast<size_t>(q)] : static_cast<float>(q - zero(index)));
  }
}

void WeightDecoder::check_values(Findings& findings) const {
  // Whole rows and tensors below 8 bits have as many codes below 0 as above.
  const int high = (1 << (bits_ - 1)) - 1;
  const bool full = bits_ == 8 || group_ > 0 || zeros_ != nullptr;
  const int low = full ? -high - 1 : -high;
  int64_t bad_codes = 0, bad_scales = 0, bad_zeros = 0, bad_padding = 0;
  for (int64_t r = 0; r < rows_; ++r) {
    if (packed_) {  // every field is a code
      const auto last = static_cast<unsigned>(codes_->data()[(r + 1) * packed_bytes(columns_, bits_) - 1]);
      const int64_t used_bits = columns_ * bits_ % 8;
      if (used_bits != 0) bad_padding += last >> used_bits != 0 ? 1 : 0;
    } else {
      for (int64_t c = 0; c < columns_; ++c) bad_codes += code(r, c) < low || code(r, c) > high ? 1 : 0;
    }
  }
  // Groups of zeros may have a scale of 0. An exponent byte of 0 or 255 stands for no float.
  const bool zero_allowed = group_ > 0 && format_ != Format::kMxint;
  for (int64_t i = 0; i < scales_->values; ++i) {
    bool good = std::isfinite(scale(i)) &&
                (scale(i) > 0 || (zero_allowed && scale(i) == 0 && !std::signbit(scale(i))));
    if (format_ == Format::kMxint) {
      const auto byte = static_cast<int>(scales_->data()[i]);
      good = byte >= 1 && byte <= 254;
    }
    bad_scales += good ? 0 : 1;
  }
  if (zeros_ != nullptr) {
    for (int64_t i = 0; i < zeros_->values; ++i) bad_zeros += zero(i) > high ? 1 : 0;
  }
  const auto say = [&](const ArtifactTensor* tensor, int64_t count, const std::string& what) {
    if (count > 0)
      findings.add(tensor->name,
                   std::to_string(count) + " of " + std::to_string(tensor->values) + " " + what);
  };
  say(codes_, bad_codes, "codes are outside " + std::to_string(low) + " to " + std::to_string(high));
  say(codes_, bad_padding, "rows have something in the unused bits behind their codes");
  say(scales_, bad_scales, "scales are not positive and finite");
  say(zeros_, bad_zeros, "zero points are not among the " + std::to_string(1 << bits_) + " codes");
}

void WeightDecoder::drop() const {
  for (const ArtifactTensor* tensor : {codes_, scales_, zeros_}) {
    if (tensor != nullptr) tensor->drop();
  }
}

}  // namespace ptq
