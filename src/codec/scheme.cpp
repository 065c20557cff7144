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

int64_t WeightScheme::low() const {
  const bool full_range = !symmetric || granularity == Granularity::kGroup || bits == 8;
  return full_range ? -high() - 1 : -high();
}

double WeightScheme::bits_per_weight(int64_t out, int64_t in) const {
  const double scale_bits = (half_scales ? 16 : 32) + (symmetric ? 0 : 8);  // with the zero point
  const auto rows = static_cast<double>(out);
  double scales = 1;
  if (granularity == Granularity::kChannel) scales = rows;
  if (granularity == Granularity::kGroup) scales = rows * static_cast<double>((in + group - 1) / group);
  return bits + scale_bits * scales / (rows * static_cast<double>(in));
}

}  // namespace ptq
