// Cases of sort g4: unit vectors of rounding, observers, Hadamards, 4-bit groups, the scan and the norm.
#include <cmath>
#include <tuple>
#include <vector>

#include "ptq/calibration/site_sums.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/model/hadamard.h"
#include "ptq/model/site.h"
#include "ptq/ops/integer_products.h"
#include "ptq/ops/ops.h"
#include "quamba_cases.h"

namespace ptq::golden {
namespace {

void flatten_numbers(const Json& json, std::vector<float>& values) {
  if (!json.is_array()) {
    values.push_back(static_cast<float>(json.get<double>()));
    return;
  }
  for (const Json& item : json) flatten_numbers(item, values);
}

// Nested arrays of numbers as a float32 tensor of their shape.
Tensor numbers(const Json& json) {
  std::vector<int64_t> shape;
  for (const Json* level = &json; level->is_array(); level = &level->at(0))
    shape.push_back(static_cast<int64_t>(level->size()));
  std::vector<float> values;
  flatten_numbers(json, values);
  return at::tensor(values, at::kFloat).reshape(shape);
}

constexpr double kRelative = 1e-6;  // of scales and float32 results, unless a unit says otherwise

void weight_int8_per_tensor(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const std::string name = "weight_int8_per_tensor " + test.at("name").get<std::string>();
    const Tensor w = numbers(test.at("w"));
    const QuantizedTensor q = round_to_nearest(w, WeightScheme{});
    const auto largest = w.abs().max().item<double>();
    if (largest > 0 && largest < 1e-5) {  // upstream's floor
      checks.no_worse(name, w, dequantize(q), numbers(test.at("codes")) * test.at("scale").get<double>());
      continue;
    }
    // Upstream rounds in the dtype of the weight; float32 is ours, and such a case carries both.
    const bool half = test.contains("codes_if_fp32");
    checks.equal(name + " codes", q.codes, numbers(test.at(half ? "codes_if_fp32" : "codes")));
    const Tensor scale = half ? q.scale.to(at::kHalf).to(at::kFloat) : q.scale;
    checks.near(name + " scale", scale.item<double>(), test.at("scale").get<double>(), kRelative);
  }
}

void activation_static_int8(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const auto quantizer = ActivationQuantizer::fixed(test.at("scale").get<double>(), 8);
    const Activation activation = quantizer(numbers(test.at("x")));
    checks.equal("activation_static_int8 codes", activation.codes, numbers(test.at("codes")));
    checks.near("activation_static_int8 values", activation.dequantize(), numbers(test.at("fake_quant")),
                kRelative);
  }
}

void rounding_modes(const Json& unit, Checks& checks) {
  const Tensor codes = std::get<0>(ops::quantize_codes(numbers(unit.at("x")), at::ones({1}), -128, 127));
  checks.equal("rounding_modes half_even", codes, numbers(unit.at("half_even")));
  std::printf("skipped %s rounding_modes half_away\n", checks.name().c_str());
}

void percentile_observer(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const auto p = test.at("alpha").get<double>();
    const std::string name = "percentile_observer alpha " + std::to_string(p);
    SiteNeeds needs;
    needs.percentiles = {p};
    const auto calls = static_cast<int64_t>(test.at("inputs").size());
    SiteSums sums(name, needs, {calls, calls});
    double value = 0;
    for (size_t i = 0; i < test.at("inputs").size(); ++i) {
      const Tensor x = numbers(test.at("inputs")[i]);
      const std::vector<float> largest =
          largest_magnitudes(x.const_data_ptr<float>(), x.numel(), values_needed(x.numel(), p));
      const double quantile = quantile_from_largest(largest, x.numel(), p);
      checks.near(name + " quantile", quantile, test.at("quantile")[i].get<double>(), kRelative);
      sums.add(x.reshape({1, 1, -1}));
      value = sums.finish().percentiles.at(p);
      checks.near(name + " value", value, test.at("w_max_after_each_call")[i].get<double>(), kRelative);
    }
    checks.near(name + " scale", value / 127, test.at("scale").get<double>(), kRelative);
  }
}

void minmax_observer(const Json& unit, Checks& checks) {
  SiteNeeds needs;
  needs.abs_max = true;
  const auto calls = static_cast<int64_t>(unit.at("inputs").size());
  SiteSums sums("minmax_observer", needs, {calls, calls});
  for (size_t i = 0; i < unit.at("inputs").size(); ++i) {
    sums.add(numbers(unit.at("inputs")[i]).reshape({1, 1, -1}));
    checks.near("minmax_observer", sums.finish().abs_max, unit.at("w_max_after_each_call")[i].get<double>(),
                kRelative);
  }
  checks.near("minmax_observer scale", sums.finish().abs_max / 127, unit.at("scale").get<double>(),
              kRelative);
}

// The table "H<m>_<whose>..." of "+-" rows; [1, 1] for m = 1.
Tensor base_matrix(const Json& tables, int64_t m, const std::string& whose) {
  if (m == 1) return at::ones({1, 1});
  const std::string prefix = "H" + std::to_string(m) + "_" + whose;
  for (const auto& [name, rows] : tables.items()) {
    if (!name.starts_with(prefix)) continue;
    std::vector<float> values;
    for (const Json& row : rows) {
      for (const char sign : row.get<std::string>()) values.push_back(sign == '+' ? 1.F : -1.F);
    }
    return at::tensor(values, at::kFloat).reshape({m, m});
  }
  throw std::runtime_error("no table " + prefix);
}

void hadamard(const Json& unit, Checks& checks) {
  const Json& tables = unit.at("tables");
  for (const Json& test : unit.at("vectors")) {
    const auto n = test.at("dim").get<int64_t>();
    const Tensor x = numbers(test.at("x"));
    for (const std::string whose : {"head", "v1"}) {
      const auto m = test.at("K_" + whose).get<int64_t>();
      const Hadamard H{n, n, base_matrix(tables, m, whose), "golden"};
      // "y_v1" is stored where it differs.
      const std::string key = test.contains("y_" + whose) ? "y_" + whose : "y_head";
      checks.near("hadamard " + whose + " " + std::to_string(n), H.apply(x), numbers(test.at(key)), 1e-5);
      checks.near("hadamard inverse " + whose + " " + std::to_string(n), H.apply_inverse(H.apply(x)), x,
                  1e-5);
    }
  }
  for (const Json& test : unit.at("weight_rows")) {
    const auto n = test.at("dim").get<int64_t>();
    for (const std::string whose : {"head", "v1"}) {
      int64_t m = 1;
      for (const Json& vector : unit.at("vectors")) {
        if (vector.at("dim") == n) m = vector.at("K_" + whose).get<int64_t>();
      }
      const Hadamard H{n, n, base_matrix(tables, m, whose), "golden"};
      checks.near("hadamard weight_rows " + whose, H.apply(numbers(test.at("W"))),
                  numbers(test.at("W_rotated_" + whose)), 1e-5);
    }
  }
}

void w4_group(const Json& unit, Checks& checks) {
  WeightScheme scheme;
  scheme.bits = 4;
  scheme.granularity = Granularity::kGroup;
  scheme.group = unit.at("group_size").get<int64_t>();
  const Tensor W = numbers(unit.at("W"));
  for (const Json& test : unit.at("cases")) {
    scheme.half_scales = test.at("dtype") == "fp16";
    const std::string name = "w4_group " + test.at("dtype").get<std::string>();
    const QuantizedTensor q = round_to_nearest(W, scheme);
    const Tensor expected_scale = numbers(test.at("scales"));
    checks.near(name + " scales", q.scale * expected_scale.ne(0), expected_scale,
                scheme.half_scales ? 0 : kRelative);
    const Tensor scale = expected_scale.repeat_interleave(scheme.group, 1).slice(1, 0, W.size(1));
    // A group of zeros: upstream's scale is 0 and its code arbitrary; both stand for 0.
    Tensor certain = scale.ne(0);
    if (scheme.half_scales) {
      // Upstream divides in float16, ours in float32: they may part where the quotient is so close to a tie
      // that float16 cannot tell.
      const Tensor quotient = at::where(certain, W / scale, at::zeros_like(W));
      const Tensor from_tie = (quotient - quotient.floor() - 0.5).abs();
      certain = certain.logical_and(from_tie.gt(quotient.abs() * 0x1p-11));
      const Tensor difference = (q.codes + 8 - numbers(test.at("codes_0_15"))) * scale.ne(0);
      checks.expect(difference.abs().max().item<double>() <= 1, name + ": codes differ by more than 1");
    }
    checks.equal(name + " codes", (q.codes + 8) * certain, numbers(test.at("codes_0_15")) * certain);
    // float16 products are rounded once more upstream.
    checks.near(name + " values", dequantize(q) * certain, numbers(test.at("dequant")) * certain,
                scheme.half_scales ? 1e-3 : kRelative);
  }
  const Json& rows = unit.at("per_channel_path");
  WeightScheme channels;
  channels.bits = 4;
  channels.granularity = Granularity::kChannel;
  const QuantizedTensor q = round_to_nearest(numbers(rows.at("W")), channels);
  checks.equal("w4_group per_channel_path codes", q.codes, numbers(rows.at("codes")));
  checks.near("w4_group per_channel_path scales", q.scale.flatten(), numbers(rows.at("scales")), kRelative);
}

void gemm_int8(const Json& unit, Checks& checks) {
  checks.equal("gemm_int8 acc", exact_matmul(numbers(unit.at("x")), numbers(unit.at("W")), 128, 128),
               numbers(unit.at("acc")));
}

void selective_scan_fp32(const Json& unit, Checks& checks) {
  // Upstream's tensors are [channels, length]; ours are [batch, length, channels].
  const auto sequence = [&](const char* key) { return numbers(unit.at(key)).t().unsqueeze(0).contiguous(); };
  const Tensor A = numbers(unit.at("A_log")).exp().neg();
  const Tensor dt = sequence("dt") + numbers(unit.at("dt_bias"));
  const Tensor h = at::zeros({1, A.size(0), A.size(1)});
  const Tensor y = ops::selective_scan(sequence("u"), dt, A, sequence("B"), sequence("C"),
                                       numbers(unit.at("D")), sequence("z"), h);
  checks.near("selective_scan_fp32 y", y[0].t(), numbers(unit.at("y")), 1e-5);
  checks.near("selective_scan_fp32 last_state", h[0], numbers(unit.at("last_state")), 1e-5);
}

void A_log_int8(const Json& unit, Checks& checks) {
  const QuantizedTensor q = round_to_nearest(numbers(unit.at("A_log")), WeightScheme{});
  checks.equal("A_log_int8 codes", q.codes, numbers(unit.at("codes")));
  checks.near("A_log_int8 scale", q.scale.item<double>(), unit.at("scale").get<double>(), kRelative);
}

void rmsnorm_int8(const Json& unit, Checks& checks) {
  const Tensor hidden = numbers(unit.at("x")) + numbers(unit.at("residual"));
  checks.near("rmsnorm_int8 residual_out", hidden, numbers(unit.at("residual_out")), kRelative);
  const Tensor gain = at::ones({hidden.size(1)});
  const Tensor normed = ops::rms_norm(hidden, gain, unit.at("eps").get<double>());
  const Tensor scale = at::full({1}, unit.at("scale").get<double>(), at::kFloat);
  checks.equal("rmsnorm_int8 codes", std::get<0>(ops::quantize_codes(normed, scale, -128, 127)),
               numbers(unit.at("codes")));
}

struct Unit {
  const char* name;
  void (*run)(const Json& unit, Checks& checks);
};

constexpr Unit kUnits[] = {
    {"weight_int8_per_tensor", weight_int8_per_tensor},
    {"activation_static_int8", activation_static_int8},
    {"rounding_modes", rounding_modes},
    {"percentile_observer", percentile_observer},
    {"minmax_observer", minmax_observer},
    {"hadamard", hadamard},
    {"w4_group", w4_group},
    {"gemm_int8", gemm_int8},
    {"selective_scan_fp32", selective_scan_fp32},
    {"A_log_int8", A_log_int8},
    {"rmsnorm_int8", rmsnorm_int8},
};

}  // namespace

void run_quamba_units(const std::filesystem::path& json_path, Checks& checks) {
  const Json document = read_json_file(json_path.string());
  run_units(document, kUnits, checks, [&](const Unit& row, const Json& unit) { row.run(unit, checks); });
}

}  // namespace ptq::golden
