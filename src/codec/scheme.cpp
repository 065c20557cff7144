#include "ptq/codec/scheme.h"

namespace ptq {

const char* granularity_name(Granularity granularity) {
  switch (granularity) {
    case Granularity::kTensor:
      return "tensor";
    case Granularity::kChannel:
      return "channel";
    case Granularity::kGroup:
      return "group";
  }
  return "?";
}

const char* number_format_name(NumberFormat format) {
  switch (format) {
    case NumberFormat::kInteger:
      return "integer";
    case NumberFormat::kMxint:
      return "mxint";
    case NumberFormat::kNf4:
      return "nf4";
  }
  return "?";
}

int64_t WeightScheme::high() const {
  return format == NumberFormat::kNf4 ? 15 : (int64_t{1} << (bits - 1)) - 1;
}

int64_t WeightScheme::low() const {
  if (format == NumberFormat::kNf4) return 0;
  if (format == NumberFormat::kMxint) return -high();
  const bool full_range = !symmetric || granularity == Granularity::kGroup || bits == 8;
  return full_range ? -high() - 1 : -high();
}

std::vector<int64_t> WeightScheme::scale_shape(int64_t out, int64_t in) const {
  if (granularity == Granularity::kChannel) return {out, 1};
  if (granularity == Granularity::kGroup) return {out, (in + group - 1) / group};
  return {1};
}

double WeightScheme::bits_per_weight(int64_t out, int64_t in) const {
  double scale_bits = (half_scales ? 16 : 32) + (symmetric ? 0 : 8);  // with the zero point
  if (format == NumberFormat::kMxint) scale_bits = 8;
  double scales = 1;
  for (const int64_t size : scale_shape(out, in)) scales *= static_cast<double>(size);
  return bits + scale_bits * scales / static_cast<double>(out * in);
}

}  // namespace ptq
