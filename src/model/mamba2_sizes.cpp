#include "model/mamba2_sizes.h"

#include <cmath>
#include <limits>

namespace ptq {
namespace {

constexpr int64_t kMaxState = 256, kMaxConv = 64;  // more than any model has; they bound the state's memory

void expect_all_equal(JsonFields& fields, const std::vector<const char*>& words, int64_t from_shapes) {
  for (const char* word : words) expect_equal(fields, {word}, from_shapes);
}

// The size under the first of the words that is there.
struct Stated {
  std::string word;  // the first of all if none is there
  std::optional<int64_t> value;
  bool is_default = false;

  std::string text() const {
    return word + (is_default ? " is not stated, which means " : " is ") + std::to_string(value.value_or(0));
  }
};

Stated stated_size(JsonFields& fields, const std::vector<const char*>& words,
                   std::optional<int64_t> fallback) {
  for (const char* word : words) {
    if (!fields.has(word)) continue;
    const int64_t value = fields.integer(word, 0);
    if (value < 1)
      throw Error(config_place(fields, word), "is " + std::to_string(value) + "; it must be 1 or more");
    return {word, value};
  }
  return {words.front(), fallback, /*is_default=*/true};
}

// G and N of B's GN channels.
void read_groups(JsonFields& fields, const Mamba2Words& words, int64_t GN, Mamba2Layout& layout) {
  const Stated groups = stated_size(fields, words.groups, words.default_groups);
  const Stated state = stated_size(fields, words.state, words.default_state);
  if (!groups.value && !state.value) {
    throw Error(fields.path(),
                groups.word + " and " + state.word +
                    " are missing, and the tensors' shapes tell only their product, " + std::to_string(GN),
                "--config names the model's config.json");
  }
  layout.groups = groups.value ? *groups.value : GN / *state.value;
  layout.d_state = state.value ? *state.value : GN / layout.groups;
  const bool fits = layout.groups <= GN && layout.d_state <= GN && layout.groups * layout.d_state == GN;
  if (!fits) {
    const std::string said = !state.value    ? groups.text()
                             : !groups.value ? state.text()
                                             : groups.text() + " and " + state.text();
    throw Error(fields.path(),
                said + ", but the tensors' shapes say that their product is " + std::to_string(GN),
                "the configuration belongs to another checkpoint; --config names the right one");
  }
  expect_all_equal(fields, words.groups, layout.groups);
  expect_all_equal(fields, words.state, layout.d_state);
}

// A number, which may be infinite in either spelling of transformers.
double number_or_infinity(const Json& value, const std::string& where) {
  const bool is_spelled = value.is_object() && value.size() == 1 && value.contains("__float__");
  if (is_spelled && value.front() == "Infinity") return std::numeric_limits<double>::infinity();
  if (!value.is_number() || std::isnan(value.get<double>()))
    throw Error(where, "has " + value.dump() + " where a number is due");
  return value.get<double>();
}

void read_limits(JsonFields& fields, const char* word, Mamba2Layout& layout) {
  if (word == nullptr || !fields.has(word)) return;
  const Json& limits = fields.at(word);
  const std::string where = config_place(fields, word);
  if (!limits.is_array() || limits.size() != 2)
    throw Error(where, "is " + limits.dump() + "; two numbers are needed, the least and the largest step");
  layout.dt_low = number_or_infinity(limits[0], where);
  layout.dt_high = number_or_infinity(limits[1], where);
  if (!std::isfinite(layout.dt_low) || layout.dt_low > layout.dt_high)
    throw Error(where, "is " + python_json_text(limits, 0) + ", and there is no number between the two");
}

// `stored` decides where the configuration says nothing, if the words say so.
bool read_bias(const WeightSource& source, JsonFields& fields, const Mamba2Words& words, const char* word,
               bool fallback, const std::string& bias) {
  const bool stored = source.find(bias) != nullptr;
  if (word == nullptr) return words.stored_biases && stored;
  return reads_bias(source, fields, word, words.stored_biases ? stored : fallback, bias);
}

}  // namespace

Mamba2Layout read_mamba2_sizes(const WeightSource& source, const std::string& prefix, int64_t d_model,
                               JsonFields& fields, const Mamba2Words& words) {
  Mamba2Layout layout;
  layout.prefix = prefix;
  layout.d_model = d_model;
  layout.d_inner = need(source, prefix + ".out_proj.weight", 2).shape[1];
  layout.heads = need(source, prefix + ".A_log", 1).shape[0];
  const std::vector<int64_t>& conv = need(source, prefix + ".conv1d.weight", 3).shape;
  layout.d_conv = conv[2];
  const int64_t E = layout.d_inner, H = layout.heads, both = conv[0] - E;  // B's channels and C's
  if (E % H != 0) {
    throw Error(prefix + ".out_proj.weight", std::to_string(E) + " channels do not divide into " +
                                                 std::to_string(H) + " heads (" + prefix + ".A_log)");
  }
  layout.head_dim = E / H;
  if (both < 2 || both % 2 != 0) {
    throw Error(prefix + ".conv1d.weight", "has " + std::to_string(conv[0]) + " channels, of which " +
                                               std::to_string(E) +
                                               " are x: what is left does not divide into B and C");
  }
  expect_all_equal(fields, words.heads, H);
  expect_all_equal(fields, words.head_dim, layout.head_dim);
  expect_all_equal(fields, words.inner, E);
  expect_all_equal(fields, words.conv, layout.d_conv);
  read_groups(fields, words, both / 2, layout);
  if (H % layout.groups != 0) {
    throw Error(config_place(fields, words.groups.front()),
                std::to_string(H) + " heads do not divide into " + std::to_string(layout.groups) + " groups");
  }
  if (layout.d_state > kMaxState || layout.d_conv > kMaxConv) {
    throw Error(prefix + ".conv1d.weight", "state size " + std::to_string(layout.d_state) +
                                               " and convolution width " + std::to_string(layout.d_conv) +
                                               "; at most " + std::to_string(kMaxState) + " and " +
                                               std::to_string(kMaxConv) + " are supported");
  }
  layout.in_bias = read_bias(source, fields, words, words.in_bias, false, prefix + ".in_proj.bias");
  layout.out_bias = read_bias(source, fields, words, words.out_bias, false, prefix + ".out_proj.bias");
  layout.conv_bias = read_bias(source, fields, words, words.conv_bias, true, prefix + ".conv1d.bias");
  read_limits(fields, words.limits, layout);
  return layout;
}

}  // namespace ptq
