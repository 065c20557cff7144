// Cases of sort d1. The tolerances are those that the case states in words.
#include "duquant_cases.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ptq/checkpoint/checkpoint.h"
#include "ptq/codec/quantized_tensor.h"
#include "ptq/model/weight.h"
#include "ptq/ops/ops.h"
#include "ptq/solve/rotation_search.h"

namespace ptq::golden {
namespace {

constexpr double kExact = 1e-12;    // float64
constexpr double kRelative = 1e-6;  // float32

Tensor numbers(const Json& json, at::ScalarType dtype = at::kFloat) {
  return at::tensor(json.get<std::vector<double>>(), at::kDouble).to(dtype);
}

Tensor read(const Checkpoint& file, const Json& name) {
  return as_tensor(file.read(name.get<std::string>())).clone();
}

void helmert_matrices(const Json& unit, const Checkpoint& file, Checks& checks) {
  for (const Json& test : unit.at("small")) {
    const auto n = test.at("n").get<int64_t>();
    std::vector<Tensor> rows;
    for (const Json& row : test.at("matrix")) rows.push_back(numbers(row, at::kDouble));
    checks.near("helmert " + std::to_string(n), helmert(n), at::stack(rows), kExact);
  }
  for (const auto& [name, n] : unit.at("large").at("tensors").items())
    checks.near(name, helmert(n.get<int64_t>()), read(file, name), kRelative);
}

void zigzag_permutations(const Json& unit, const Checkpoint& /*file*/, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const Tensor perm = zigzag(numbers(test.at("maxima")), test.at("block").get<int64_t>());
    checks.equal("zigzag " + test.at("name").get<std::string>(), perm, numbers(test.at("perm"), at::kLong));
  }
}

// One search of as many steps as its trace has, and one that ends where the selected step is.
void greedy_search(const Json& test, const Json& expected, GreedyOptions options, const Checkpoint& file,
                   const std::string& name, Checks& checks) {
  const auto block = test.at("block").get<int64_t>();
  const auto selected = expected.at("selected").get<int64_t>();
  const Json& peaks = expected.at("peaks_of_all_steps");
  auto swaps = expected.at("swap_channels_all_steps").get<std::vector<int64_t>>();
  swaps.resize(static_cast<size_t>(selected));
  const Tensor base = rotation_base(block, read(file, test.at("Q")));
  for (const int64_t steps : {test.at("steps").get<int64_t>(), selected}) {
    options.steps = steps;
    const GreedyRotation found = greedy_rotation(read(file, test.at("X")), block, base, options);
    checks.expect(found.steps == selected, name + ": another step was selected");
    checks.expect(found.swaps == swaps, name + ": other channels were exchanged");
    checks.near(name + " peak before", found.peak_before, peaks.at(0).get<double>(), kExact);
    checks.near(name + " peak after", found.peak_after, peaks.at(static_cast<size_t>(selected)).get<double>(),
                kExact);
    checks.near(name + " R", found.R, read(file, expected.at("R")), kExact);
  }
}

void greedy_rotations(const Json& unit, const Checkpoint& file, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const std::string name = "greedy " + test.at("name").get<std::string>();
    GreedyOptions options;
    options.peak = GreedyOptions::Peak::kRange;
    greedy_search(test, test.at("range_channel"), options, file, name + " range", checks);
    options.peak = GreedyOptions::Peak::kMagnitude;
    greedy_search(test, test.at("absmax_channel"), options, file, name + " magnitude", checks);
    // The row's index in place of the channel's is a slip of the authors' code.
    std::printf("skipped %s %s range_row\n", checks.name().c_str(), name.c_str());
  }
}

// Whether the authors' limits, 1e-5 to 1e4, made the step what it is.
bool is_limit(double step) {
  return std::abs(step / 1e-5 - 1) < kRelative || std::abs(step / 1e4 - 1) < kRelative;
}

void check_weight(const Tensor& x, const Json& test, const Json& expected, const std::string& name,
                  Checks& checks) {
  WeightScheme scheme;
  scheme.bits = test.at("bits").get<int>();
  scheme.granularity = Granularity::kChannel;
  scheme.symmetric = false;
  const Tensor clip = at::full({1}, test.at("clip").get<double>(), at::kFloat);
  const QuantizedTensor q = round_on_grid(x, weight_grid(x, scheme, clip), scheme);
  const Tensor value = numbers(expected.at("value")).unsqueeze(0);
  if (is_limit(expected.at("step").get<double>()))
    return checks.no_worse(name + " values", x, dequantize(q), value);
  const int64_t offset = -scheme.low();  // ours are signed
  checks.equal(name + " codes", q.codes.to(at::kLong) + offset, numbers(expected.at("codes")).unsqueeze(0));
  checks.expect(q.zero.item<int64_t>() + offset == expected.at("zero_point").get<int64_t>(),
                name + " zero point");
  checks.near(name + " step", q.scale.item<double>(), expected.at("step").get<double>(), kRelative);
  checks.near(name + " values", dequantize(q), value, kRelative);
}

void check_activation(const Tensor& x, const Json& test, const Json& expected, const std::string& name,
                      Checks& checks) {
  const auto [codes, zero, step] =
      ops::quantize_asymmetric(x, test.at("bits").get<int64_t>(), test.at("clip").get<double>());
  const Tensor values = (codes.to(at::kFloat) - zero) * step;
  const Tensor value = numbers(expected.at("value")).unsqueeze(0);
  if (is_limit(expected.at("step").get<double>())) return checks.no_worse(name + " values", x, values, value);
  checks.equal(name + " codes", codes, numbers(expected.at("codes")).unsqueeze(0));
  checks.expect(zero.item<int64_t>() == expected.at("zero_point").get<int64_t>(), name + " zero point");
  checks.near(name + " step", step.item<double>(), expected.at("step").get<double>(), kRelative);
  checks.near(name + " values", values, value, kRelative);
}

void round_asymmetric(const Json& unit, const Checkpoint& /*file*/, Checks& checks) {
  for (const Json& test : unit.at("cases")) {
    const std::string name = "round_asymmetric " + test.at("row").get<std::string>() + ", " +
                             test.at("bits").dump() + " bits, clip " + test.at("clip").dump();
    const Tensor x = numbers(test.at("x")).unsqueeze(0);
    check_weight(x, test, test.at("spec"), name + ", weight", checks);
    check_activation(x, test, test.at("spec"), name + ", activation", checks);
  }
}

struct Unit {
  const char* name;
  void (*run)(const Json& unit, const Checkpoint& file, Checks& checks);
};

constexpr Unit kUnits[] = {
    {"helmert", helmert_matrices},
    {"zigzag", zigzag_permutations},
    {"greedy", greedy_rotations},
    {"round_asymmetric", round_asymmetric},
};

}  // namespace

void run_duquant_units(const std::filesystem::path& json_path, Checks& checks) {
  const Json document = read_json_file(json_path.string());
  const auto file =
      open_checkpoint(std::filesystem::path(json_path).replace_extension(".safetensors").string());
  run_units(document, kUnits, checks,
            [&](const Unit& row, const Json& unit) { row.run(unit, *file, checks); });
}

}  // namespace ptq::golden
