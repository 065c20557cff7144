#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "ptq/base/error.h"

namespace ptq {
namespace {

constexpr double kDefaultTheta = 1e4;  // what transformers takes if the configuration states none
constexpr double kMaxNumber = 1e12;    // for every number here: keeps all that follows finite

// The numbers of one model's rotary embedding.
struct Parameters {
  JsonFields& fields;
  int64_t head_dim;  // the rotated channels of a head
  int64_t context_limit;
  double theta;
  double original_limit;  // the context length before it was stretched

  double number(const char* key, double fallback, double least) const {
    const double value = fields.number(key, fallback);
    if (!(value >= least && value <= kMaxNumber)) {
      throw Error(fields.path() + "." + key, "is " + Json(value).dump() + "; it must lie between " +
                                                 Json(least).dump() + " and " + Json(kMaxNumber).dump());
    }
    return value;
  }
  double required(const char* key, double least) const {
    fields.at(key);  // throws if it is missing
    return number(key, least, least);
  }
};

// theta^(2 i / head_dim) for i < head_dim / 2: the wavelength of pair i is 2 pi times that.
Tensor periods(const Parameters& p) {
  return at::pow(p.theta, at::arange(0, p.head_dim, 2, at::kFloat) / p.head_dim);
}

Rope default_rope(const Parameters& p) {
  return {1 / periods(p), 1};
}

// Positions are divided by the factor.
Rope linear_rope(const Parameters& p) {
  return {1 / periods(p) / p.required("factor", 1), 1};
}

// Long wavelengths are stretched by the factor, short ones are not, those between by something between.
Rope llama3_rope(const Parameters& p) {
  const double factor = p.required("factor", 1);
  const double low = p.required("low_freq_factor", 1e-6);
  const double high = p.required("high_freq_factor", 1e-6);
  if (high <= low) {
    throw Error(p.fields.path() + ".high_freq_factor",
                "is " + Json(high).dump() + ", not above low_freq_factor, " + Json(low).dump());
  }
  const Tensor plain = 1 / periods(p);
  const Tensor turns = p.original_limit / (2 * std::numbers::pi / plain);  // over the original context
  const Tensor smooth = (turns - low) / (high - low);
  const Tensor between = (1 - smooth) * plain / factor + smooth * plain;
  return {at::where(turns < low, plain / factor, at::where(turns > high, plain, between)), 1};
}

// YaRN's attention temperature for a context stretched by `factor`.
double yarn_temperature(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

double yarn_scale(const Parameters& p, double factor) {
  if (p.fields.has("attention_factor")) return p.required("attention_factor", 1e-6);
  const double mscale = p.number("mscale", 0, 0);
  const double mscale_all = p.number("mscale_all_dim", 0, 0);
  if (mscale == 0 || mscale_all == 0) return yarn_temperature(factor, 1);
  return yarn_temperature(factor, mscale) / yarn_temperature(factor, mscale_all);
}

// YaRN (arXiv 2309.00071): pairs that turn more than beta_fast times over the original context stay as they
// are, those that turn less than beta_slow times are stretched, with a ramp between.
Rope yarn_rope(const Parameters& p) {
  const double stated = static_cast<double>(p.context_limit) / p.original_limit;
  const double factor = p.number("factor", std::max(1.0, stated), 1);
  // transformers takes a 0 as "not stated".
  const auto or_default = [&](const char* key, double fallback) {
    const double value = p.number(key, fallback, 0);
    return value == 0 ? fallback : value;
  };
  const auto pair_with = [&](double turns) {  // the pair that turns so often, as a real number
    return static_cast<double>(p.head_dim) * std::log(p.original_limit / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(p.theta));
  };
  double first = pair_with(or_default("beta_fast", 32));
  double last = pair_with(or_default("beta_slow", 1));
  if (p.fields.boolean("truncate", true)) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, static_cast<double>(p.head_dim - 1));
  if (first == last) last += 0.001;
  const Tensor stretched = ((at::arange(p.head_dim / 2, at::kFloat) - first) / (last - first)).clamp(0, 1);
  const Tensor period = periods(p);
  const Tensor kept = 1 - stretched;
  return {1 / (factor * period) * (1 - kept) + 1 / period * kept, yarn_scale(p, factor)};
}

// The divisors of the frequencies that the field `key` lists.
Tensor factors(const Parameters& p, const char* key) {
  const Json& list = p.fields.at(key);
  const std::string place = p.fields.path() + "." + key;
  if (!list.is_array() || static_cast<int64_t>(list.size()) != p.head_dim / 2)
    throw Error(place,
                "must be an array of " + std::to_string(p.head_dim / 2) + " numbers, one for each pair");
  std::vector<float> values;
  for (const Json& value : list) {
    const double number = value.is_number() ? value.get<double>() : 0;
    if (!(number >= 1e-6 && number <= kMaxNumber))
      throw Error(place, "holds " + value.dump() + "; a factor must lie between 1e-06 and 1e+12");
    values.push_back(static_cast<float>(number));
  }
  return at::tensor(values);
}

// LongRoPE (arXiv 2402.13753): factors for each pair, others for texts beyond the original context.
Rope longrope_rope(const Parameters& p) {
  const double stretch = static_cast<double>(p.context_limit) / p.original_limit;
  double scale = 1;
  if (p.fields.has("attention_factor"))
    scale = p.required("attention_factor", 1e-6);
  else if (stretch > 1)
    scale = std::sqrt(1 + std::log(stretch) / std::log(p.original_limit));
  const Tensor period = periods(p);
  Rope rope{1 / (factors(p, "short_factor") * period), scale};
  rope.long_frequencies = 1 / (factors(p, "long_factor") * period);
  rope.short_limit = static_cast<int64_t>(p.original_limit);
  return rope;
}

struct RopeType {
  const char* name;
  std::vector<std::string> fields;  // besides those that every type has
  Rope (*make)(const Parameters&);
};

const std::vector<RopeType>& rope_types() {
  static const std::vector<RopeType> types = {
      {"default", {}, default_rope},
      {"linear", {"factor"}, linear_rope},
      {"llama3",
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
       llama3_rope},
      {"yarn",
       {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale",
        "mscale_all_dim", "truncate"},
       yarn_rope},
      {"longrope",
       {"short_factor", "long_factor", "original_max_position_embeddings", "attention_factor"},
       longrope_rope},
  };
  return types;
}

const RopeType& find_type(JsonFields& fields) {
  std::string name = fields.string("rope_type", fields.string("type", "default"));
  // What Phi-3's first files call it.
  if (name == "su" || (name == "yarn" && fields.has("long_factor"))) name = "longrope";
  std::string supported;
  for (const RopeType& type : rope_types()) {
    if (name == type.name) return type;
    supported += (supported.empty() ? "" : ", ") + std::string(type.name);
  }
  throw Error(fields.path(), "the rope type \"" + name + "\" is not supported", "one of " + supported);
}

// One object for each layer type is not done, and would look like fields that are not understood.
void refuse_nested(const Json& object, const std::string& path) {
  for (const auto& [key, value] : object.items()) {
    if (!value.is_object()) continue;
    throw Error(path, "holds an object for " + Json(key).dump() +
                          "; one rotary embedding for all layers is supported, not one for each layer type");
  }
}

void warn_of_fields(const Json& object, const RopeType& type, const std::string& path,
                    std::vector<std::string>& warnings) {
  static const std::vector<std::string> common = {"rope_type", "type", "rope_theta", "partial_rotary_factor"};
  std::string unknown;
  for (const auto& [key, value] : object.items()) {
    const auto among = [&](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), key) != names.end();
    };
    if (!value.is_null() && !among(common) && !among(type.fields))
      unknown += (unknown.empty() ? "" : ", ") + Json(key).dump();
  }
  if (unknown.empty()) return;
  warnings.push_back(path + ": the rope type \"" + type.name + "\" does not read " + unknown +
                     ": ignored, as in transformers");
}

// The channels of a head that are rotated. `inner` wins over `top`, as in transformers.
int64_t rotated_channels(JsonFields& top, JsonFields& inner, int64_t head_dim,
                         std::optional<double> partial) {
  JsonFields& fields = inner.has("partial_rotary_factor") ? inner : top;
  const double part = fields.number("partial_rotary_factor", partial.value_or(1));
  const std::string where =
      fields.path() + (&fields == &top ? ": " : ".") + std::string("partial_rotary_factor");
  if (!partial && part != 1)
    throw Error(where, "is " + Json(part).dump() + "; this architecture rotates whole heads, 1");
  const auto channels =
      part > 0 && part <= 1 ? static_cast<int64_t>(static_cast<double>(head_dim) * part) : 0;
  if (channels > 0 && channels % 2 == 0) return channels;
  throw Error(where, "is " + Json(part).dump() + ", with which " + std::to_string(channels) + " of " +
                         std::to_string(head_dim) + " channels of a head would be rotated: they are pairs");
}

}  // namespace

void Rope::move_to(at::Device device) {
  frequencies = frequencies.to(device);
  if (long_frequencies.defined()) long_frequencies = long_frequencies.to(device);
}

const Tensor& Rope::frequencies_of(int64_t first, int64_t length, int64_t text_length) const {
  if (!long_frequencies.defined()) return frequencies;
  const int64_t reached = first + length;
  const int64_t began_as = text_length != 0 ? text_length : first > 0 ? first : reached;
  if (reached > short_limit && began_as <= short_limit) {
    throw Error("longrope",
                "the text has reached token " + std::to_string(reached) +
                    ", and was begun as one of at most " + std::to_string(short_limit) +
                    ", which this model reads in another way from its first token on",
                "the length of the whole text, given when it begins");
  }
  return began_as > short_limit ? long_frequencies : frequencies;
}

// One token is turned by plain loops: a dozen of libtorch's operations would take longer than its products.
Turn Rope::at_one(const Tensor& of_pairs, int64_t position) const {
  const int64_t half = of_pairs.size(0);
  Turn turn{at::empty({1, 1, half}, at::kFloat), at::empty({1, 1, half}, at::kFloat), head_dim};
  const auto* frequency = of_pairs.const_data_ptr<float>();
  for (int64_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * frequency[i];
    turn.cos.data_ptr<float>()[i] = std::cos(angle) * static_cast<float>(scale);
    turn.sin.data_ptr<float>()[i] = std::sin(angle) * static_cast<float>(scale);
  }
  return turn;
}

Tensor Turn::of_one(const Tensor& x) const {
  const Tensor from = x.contiguous(), y = at::empty(x.sizes(), at::kFloat);
  const int64_t half = cos.size(-1), rows = x.numel() / head_dim;
  const float *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  for (int64_t r = 0; r < rows; ++r) {
    const float* a = from.const_data_ptr<float>() + r * head_dim;
    float* to = y.data_ptr<float>() + r * head_dim;
    for (int64_t i = 0; i < half; ++i) {
      to[i] = a[i] * c[i] - a[i + half] * s[i];
      to[i + half] = a[i + half] * c[i] + a[i] * s[i];
    }
    std::copy(a + 2 * half, a + head_dim, to + 2 * half);
  }
  return y;
}

Turn Rope::at(int64_t first, int64_t length, int64_t text_length) const {
  const Tensor& of_pairs = frequencies_of(first, length, text_length);
  if (length == 1 && of_pairs.is_cpu() && of_pairs.is_contiguous()) return at_one(of_pairs, first);
  const Tensor positions = at::arange(first, first + length, of_pairs.options());
  const Tensor angles = (positions.unsqueeze(1) * of_pairs).unsqueeze(1);
  Turn turn{angles.cos(), angles.sin(), head_dim};
  if (scale != 1) {
    turn.cos.mul_(scale);
    turn.sin.mul_(scale);
  }
  return turn;
}

Tensor Turn::operator()(const Tensor& x) const {
  if (cos.size(0) == 1 && x.is_cpu() && x.numel() > 0) return of_one(x);
  const int64_t half = cos.size(-1);
  const Tensor heads = x.unflatten(-1, {-1, head_dim});
  const Tensor a = heads.slice(-1, 0, half), b = heads.slice(-1, half, 2 * half);
  Tensor y = at::empty_like(heads);
  Tensor y_a = y.slice(-1, 0, half), y_b = y.slice(-1, half, 2 * half);
  at::mul_out(y_a, a, cos).addcmul_(b, sin, -1);
  at::mul_out(y_b, b, cos).addcmul_(a, sin);
  if (2 * half < head_dim) y.slice(-1, 2 * half).copy_(heads.slice(-1, 2 * half));
  return y.flatten(-2);
}

Rope read_rope(const Json& config, int64_t head_dim, int64_t context_limit,
               std::vector<std::string>& warnings, std::optional<double> partial) {
  static const Json nothing = Json::object();
  JsonFields top(config, "config.json");
  const char *const older = "rope_scaling", *const newer = "rope_parameters";
  const auto states = [&](const char* key) { return top.has(key) && !top.at(key).empty(); };
  const char* key = states(older) ? older : newer;
  if (states(older) && states(newer) && top.at(older) != top.at(newer)) {
    warnings.push_back(std::string("config.json: ") + older + " takes the place of " + newer +
                       ", as in transformers, and they differ");
  }
  const Json& object = top.has(key) ? top.at(key) : nothing;
  JsonFields fields(object, std::string("config.json: ") + key);
  refuse_nested(object, fields.path());
  const int64_t rotated = rotated_channels(top, fields, head_dim, partial);
  const RopeType& type = find_type(fields);
  warn_of_fields(object, type, fields.path(), warnings);

  Parameters parameters{fields, rotated, context_limit, 0, 0};
  const Parameters outside{top, rotated, context_limit, 0, 0};
  // transformers prefers the inner theta, and the outer original limit.
  constexpr double kLeastTheta = 1.0001;  // its logarithm is divided by
  parameters.theta = fields.has("rope_theta") ? parameters.required("rope_theta", kLeastTheta)
                                              : outside.number("rope_theta", kDefaultTheta, kLeastTheta);
  const char* const original = "original_max_position_embeddings";
  parameters.original_limit =
      (top.has(original) ? outside : parameters).number(original, static_cast<double>(context_limit), 1);
  Rope rope = type.make(parameters);
  rope.head_dim = head_dim;
  return rope;
}

}  // namespace ptq
