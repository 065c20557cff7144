// Cases of sort q1: bit for bit, but for the sign of zero.
#include "qera_cases.h"

#include <vector>

#include "ptq/base/json.h"
#include "ptq/codec/packing.h"
#include "ptq/codec/quantized_tensor.h"

namespace ptq::golden {
namespace {

Tensor numbers(const Json& json) {
  return at::tensor(json.get<std::vector<double>>(), at::kDouble).to(at::kFloat);
}

Tensor matrix(const Json& json, const Json& test) {
  return numbers(json).reshape({test.at("rows").get<int64_t>(), -1});
}

WeightScheme block_scheme(NumberFormat format, int bits, int64_t group) {
  WeightScheme scheme;
  scheme.format = format;
  scheme.bits = bits;
  scheme.granularity = Granularity::kGroup;
  scheme.group = group;
  return scheme;
}

void mxint_blocks(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const Tensor x = numbers(test.at("x")).unsqueeze(0);
    for (const int bits : {2, 3, 4, 8}) {
      const std::string key = "mxint" + std::to_string(bits);
      if (!test.contains(key)) continue;
      const Json& expected = test.at(key);
      const std::string name = key + " " + test.at("name").get<std::string>();
      const WeightScheme scheme = block_scheme(NumberFormat::kMxint, bits, kMxintGroup);
      const QuantizedTensor q = round_to_nearest(x, scheme);
      checks.equal(name + " codes", q.codes, numbers(expected.at("code")).unsqueeze(0));
      const Tensor exponent = pack_exponents(q.scale, bits).to(at::kLong) - 127;
      checks.equal(name + " exponent", exponent, at::full({1, 1}, expected.at("exponent").get<int64_t>()));
      if (expected.at("value").is_null()) continue;
      // The authors overflow to infinity at the end of the range (null in JSON); ours stay finite.
      std::vector<double> values;
      for (const Json& value : expected.at("value"))
        values.push_back(value.is_number() ? value.get<double>() : 0);
      const Tensor target = at::tensor(values, at::kDouble).to(at::kFloat).unsqueeze(0);
      std::vector<int64_t> known;
      for (const Json& value : expected.at("value")) known.push_back(value.is_number() ? 1 : 0);
      const Tensor mask = at::tensor(known).unsqueeze(0);
      checks.equal(name + " values", dequantize(q) * mask, target * mask);
    }
  }
}

void mxint_tails(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const auto bits = test.at("bits").get<int>();
    const auto block = test.at("block").get<int64_t>();
    const QuantizedTensor q =
        round_to_nearest(matrix(test.at("x"), test), block_scheme(NumberFormat::kMxint, bits, block));
    checks.equal("mxint tail of " + test.at("in").dump() + ", " + std::to_string(bits) + " bits",
                 dequantize(q), matrix(test.at("value"), test));
  }
}

void mxint_16bit(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const auto bits = test.at("bits").get<int>();
    const auto dtype = test.at("dtype") == "bfloat16" ? at::kBFloat16 : at::kHalf;
    const Tensor x = numbers(test.at("x")).to(dtype).reshape({1, -1});
    const QuantizedTensor q = round_to_nearest(x, block_scheme(NumberFormat::kMxint, bits, kMxintGroup));
    checks.equal("mxint of " + test.at("dtype").get<std::string>() + ", " + std::to_string(bits) + " bits",
                 dequantize(q).to(dtype), numbers(test.at("value")).reshape({1, -1}));
  }
}

void nf4(const Json& unit, Checks& checks) {
  const WeightScheme scheme = block_scheme(NumberFormat::kNf4, 4, kNf4Group);
  const Tensor x = matrix(unit.at("x"), unit);
  const QuantizedTensor q = round_to_nearest(x, scheme);
  checks.equal("nf4 codes", q.codes, matrix(unit.at("code"), unit));
  checks.equal("nf4 scales", q.scale.flatten(), numbers(unit.at("absmax")));
  checks.equal("nf4 values", dequantize(q), matrix(unit.at("value"), unit));
  const Tensor table = dequantize({at::arange(16).to(at::kChar).unsqueeze(0), at::ones({1, 1}), {}, scheme});
  checks.equal("nf4 table", table.flatten(), numbers(unit.at("table")));
  // bitsandbytes puts the first element into the high nibble, our files into the low one.
  const Tensor packed = pack_codes(q.codes, scheme).to(at::kLong).flatten();
  checks.equal("nf4 packed", packed.bitwise_and(15) * 16 + packed.bitwise_right_shift(4),
               numbers(unit.at("packed")));
}

void integer_groups(const Json& unit, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    WeightScheme scheme = block_scheme(NumberFormat::kInteger, test.at("bits").get<int>(), test.at("group"));
    scheme.symmetric = test.at("symmetric").get<bool>();
    scheme.half_scales = true;
    scheme.plain_scales = true;
    const std::string name = std::string(scheme.symmetric ? "symmetric" : "asymmetric") + " int" +
                             std::to_string(scheme.bits) + " groups of " + std::to_string(scheme.group);
    const QuantizedTensor q = round_to_nearest(matrix(test.at("w"), test), scheme);
    const int64_t offset = scheme.symmetric ? 0 : -scheme.low();  // our asymmetric codes are signed
    const Tensor live = q.scale.repeat_interleave(scheme.group, 1).slice(1, 0, q.codes.size(1)).ne(0);
    checks.equal(name + " codes", (q.codes.to(at::kLong) + offset) * live,
                 matrix(test.at("code"), test) * live);
    checks.equal(name + " scales", q.scale.flatten(), numbers(test.at("scale_fp16")));
    checks.equal(name + " values", dequantize(q), matrix(test.at("value"), test));
    if (test.contains("zero")) {
      checks.equal(name + " zeros", (q.zero.to(at::kLong) + offset).flatten(), numbers(test.at("zero")));
    }
  }
}

struct Unit {
  const char* name;
  void (*run)(const Json& unit, Checks& checks);
};

constexpr Unit kUnits[] = {
    {"mxint_blocks", mxint_blocks},      {"mxint_tails", mxint_tails},
    {"mxint_16bit_inputs", mxint_16bit}, {"nf4", nf4},
    {"integer_groups", integer_groups},
};

}  // namespace

void run_qera_formats(const std::filesystem::path& json_path, Checks& checks) {
  const Json document = read_json_file(json_path.string());
  run_units(document, kUnits, checks, [&](const Unit& row, const Json& unit) { row.run(unit, checks); });
}

}  // namespace ptq::golden
