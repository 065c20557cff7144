// The selective scan and the causal convolution: every instruction set the machine has against the plain
// loops.
#include "inputs.h"

namespace ptq::kernels {
namespace {

struct ScanShape {
  int64_t length, channels, state;
};

// Rows of u, dt, z, y, B and C are further apart than they are long, by different amounts.
struct ScanCase {
  ScanCase(const ScanShape& s, const std::string& name)
      : shape(s),
        u(values(name, s.length, s.channels + 1, 1)),
        dt(values(name, s.length, s.channels + 2, 2)),
        z(values(name, s.length, s.channels + 3, 3)),
        B(values("normal", s.length, s.state + 1, 4)),
        C(values("normal", s.length, s.state + 2, 5)),
        A(values("normal", s.channels, s.state, 6)),
        D(values("normal", 1, s.channels, 7)),
        h(values("normal", s.channels, s.state, 8)) {
    for (float& a : A) a = -2 * std::fabs(a);
  }

  struct Result {
    std::vector<float> y, h;
  };

  // Steps [begin, begin + length) of channels [first, first + channels).
  SelectiveScan part(int64_t begin, int64_t length, int64_t first, int64_t channels, float* h_out,
                     float* y) const {
    const ScanShape& s = shape;
    return {.u = u.data() + begin * (s.channels + 1) + first,
            .dt = dt.data() + begin * (s.channels + 2) + first,
            .z = z.data() + begin * (s.channels + 3) + first,
            .B = B.data() + begin * (s.state + 1),
            .C = C.data() + begin * (s.state + 2),
            .A = A.data() + first * s.state,
            .D = D.data() + first,
            .h = h_out ? h_out + first * s.state : nullptr,
            .y = y + begin * (s.channels + 4) + first,
            .u_stride = s.channels + 1,
            .dt_stride = s.channels + 2,
            .z_stride = s.channels + 3,
            .B_stride = s.state + 1,
            .C_stride = s.state + 2,
            .y_stride = s.channels + 4,
            .length = length,
            .channels = channels,
            .state = s.state};
  }

  // In pieces of `steps` time steps and `group` channels.
  Result run(const Candidate<SelectiveScan>& kernel, int64_t steps, int64_t group,
             bool with_state = true) const {
    Output y(shape.length, shape.channels, shape.channels + 4);
    Output state(shape.channels, shape.state, shape.state);
    std::copy(h.begin(), h.end(), state.data());
    for (int64_t begin = 0; begin < shape.length; begin += steps)
      for (int64_t first = 0; first < shape.channels; first += group)
        kernel.run(part(begin, std::min(steps, shape.length - begin), first,
                        std::min(group, shape.channels - first), with_state ? state.data() : nullptr,
                        y.data()));
    return {y.take(), state.take()};
  }

  Result run(const Candidate<SelectiveScan>& kernel, bool with_state = true) const {
    return run(kernel, shape.length, shape.channels, with_state);
  }

  ScanShape shape;
  std::vector<float> u, dt, z, B, C, A, D, h;
};

const std::vector<ScanShape> kShapes = {{1, 1, 1},    {1, 16, 16}, {1, 37, 16}, {5, 7, 3},     {33, 24, 16},
                                        {31, 100, 8}, {64, 17, 5}, {3, 40, 33}, {40, 19, 256}, {200, 48, 16}};

TEST(SelectiveScan, EveryIsaAgreesWithThePlainLoops) {
  for (const Candidate<SelectiveScan>& candidate : vectorized<SelectiveScan>()) {
    for (const std::string name : {"flat", "ramp", "normal", "outlier", "zeros", "denormals"}) {
      for (const ScanShape& shape : kShapes) {
        const ScanCase scan(shape, name);
        const std::string what = std::string(isa_name(candidate.isa)) + " " + name + " length " +
                                 std::to_string(shape.length) + " channels " +
                                 std::to_string(shape.channels) + " state " + std::to_string(shape.state);
        for (const bool with_state : {true, false}) {
          const ScanCase::Result got = scan.run(candidate, with_state),
                                 expected = scan.run(plain_loops<SelectiveScan>(), with_state);
          expect_close(got.y, expected.y, 2e-6, what);
          expect_close(got.h, expected.h, 2e-6, what);
        }
      }
    }
  }
}

TEST(SelectiveScan, SplitsOfTimeAndChannelsGiveTheSameBits) {
  for (const Candidate<SelectiveScan>& candidate : supported<SelectiveScan>()) {
    for (const ScanShape& shape : {ScanShape{70, 53, 16}, ScanShape{70, 53, 7}}) {
      const ScanCase scan(shape, "normal");
      const ScanCase::Result whole = scan.run(candidate);
      for (const int64_t steps : {1, 7, 32, 70}) {
        for (const int64_t group : {1, 5, 16, 53}) {
          const ScanCase::Result parts = scan.run(candidate, steps, group);
          expect_same_bits(parts.y, whole.y, isa_name(candidate.isa));
          expect_same_bits(parts.h, whole.h, isa_name(candidate.isa));
        }
      }
    }
  }
}

// dt of -100 to 100: from no decay at all to a state that is forgotten at once; z saturates silu at both
// ends.
TEST(SelectiveScan, ExtremeStepsStayFiniteAndAgree) {
  for (const Candidate<SelectiveScan>& candidate : vectorized<SelectiveScan>()) {
    ScanCase scan({101, 20, 16}, "normal");
    for (size_t i = 0; i < scan.dt.size(); ++i) scan.dt[i] = static_cast<float>(i % 201) - 100.0f;
    for (size_t i = 0; i < scan.z.size(); ++i) scan.z[i] = static_cast<float>(i % 401) - 200.0f;
    const ScanCase::Result got = scan.run(candidate), expected = scan.run(plain_loops<SelectiveScan>());
    for (const float y : got.y) ASSERT_TRUE(std::isfinite(y)) << isa_name(candidate.isa);
    expect_close(got.y, expected.y, 2e-6, isa_name(candidate.isa));
  }
}

// With B = 0 and a tiny delta the state must stay: an exp that is off by one unit at 0 would drift by 512 of
// them.
TEST(SelectiveScan, TinyStepsDoNotDrift) {
  for (const Candidate<SelectiveScan>& candidate : supported<SelectiveScan>()) {
    ScanCase scan({512, 16, 16}, "normal");
    std::fill(scan.B.begin(), scan.B.end(), 0.0f);
    std::fill(scan.dt.begin(), scan.dt.end(), -30.0f);
    expect_same_bits(scan.run(candidate).h, scan.h, isa_name(candidate.isa));
  }
}

// One channel, one state, one step: y = silu(z) (D u + C (exp(delta A) h + delta B u)) in double, over a
// sweep that shows the error of exp, softplus and silu alone, in units of the last place of the result.
TEST(SelectiveScan, ElementaryFunctionsAreRightToThreeUnits) {
  for (const Candidate<SelectiveScan>& candidate : supported<SelectiveScan>()) {
    double worst[3] = {};
    for (int i = -8000; i <= 8000; ++i) {
      const float x = static_cast<float>(i) * 0.01f;
      const float zero = 0, one = 1, exponent = -std::fabs(x), delta_one = 0.541324854612918f;
      float y = 0, h = 1;
      auto run = [&](float u, float dt, float z, float A, float D, float start) {
        h = start;
        candidate.run({&u, &dt, &z, &one, &zero, &A, &D, &h, &y, 1, 1, 1, 1, 1, 1, 1, 1, 1});
      };
      auto units = [](float got, double expected) {
        const float rounded = static_cast<float>(expected);
        return std::fabs(static_cast<double>(got) - expected) /
               (static_cast<double>(std::nextafter(std::fabs(rounded), INFINITY)) -
                std::fabs(static_cast<double>(rounded)));
      };
      run(zero, delta_one, zero, exponent, zero, one);
      // delta is 1 to rounding; e^(delta A) is as uncertain as delta A
      if (exponent > -1.0f) worst[0] = std::max(worst[0], units(h, std::exp(static_cast<double>(exponent))));
      run(one, x, zero, zero, zero, zero);
      worst[1] = std::max(worst[1], units(h, std::log1p(std::exp(static_cast<double>(x)))));
      run(one, zero, x, zero, one, zero);
      if (x > -60.0f)
        worst[2] =
            std::max(worst[2], units(y, static_cast<double>(x) / (1 + std::exp(-static_cast<double>(x)))));
    }
    EXPECT_LE(worst[0], 3.0) << isa_name(candidate.isa) << " exp";
    EXPECT_LE(worst[1], 3.0) << isa_name(candidate.isa) << " softplus";
    EXPECT_LE(worst[2], 3.5) << isa_name(candidate.isa) << " silu";
    RecordProperty(
        std::string(isa_name(candidate.isa)) + "_units",
        std::to_string(worst[0]) + " " + std::to_string(worst[1]) + " " + std::to_string(worst[2]));
    std::printf("%s units: exp %.2f softplus %.2f silu %.2f\n", isa_name(candidate.isa), worst[0], worst[1],
                worst[2]);
  }
}

TEST(CausalConv, EveryIsaAgreesWithThePlainLoops) {
  for (const Candidate<CausalConv>& candidate : vectorized<CausalConv>()) {
    for (const std::string name : {"flat", "ramp", "normal", "outlier", "zeros", "denormals"}) {
      for (int64_t width = 1; width <= kMaxConvWidth; ++width) {
        for (const int64_t channels : {1, 7, 16, 33, 256, 300}) {
          for (const int64_t length : {1, 2, 9}) {
            const std::vector<float> x = values(name, length, channels + 1),
                                     weight = values("normal", channels, width, 2),
                                     bias = values("normal", 1, channels, 3),
                                     window = values(name, width, channels + 2, 4);
            // Terms may cancel: errors are relative to them.
            float largest = 0;
            for (const float v : x) largest = std::max(largest, std::fabs(v));
            largest = std::max(largest, 1.0f);
            for (const int what : {0, 1, 2}) {
              auto run = [&](const Candidate<CausalConv>& kernel) {
                Output y(length, channels, channels + 3);
                kernel.run({x.data(), weight.data(), what == 0 ? nullptr : bias.data(),
                            what == 1 ? nullptr : window.data(), y.data(), channels + 1, channels + 2,
                            channels + 3, length, channels, width});
                return y.take();
              };
              expect_close(run(candidate), run(plain_loops<CausalConv>()), 1e-6,
                           std::string(isa_name(candidate.isa)) + " " + name, largest);
            }
          }
        }
      }
    }
  }
}

TEST(CausalConv, SplitsOfChannelsGiveTheSameBits) {
  const int64_t channels = 61, length = 10, width = 4;
  const std::vector<float> x = values("normal", length, channels),
                           weight = values("normal", channels, width, 2);
  for (const Candidate<CausalConv>& candidate : supported<CausalConv>()) {
    auto run = [&](int64_t group) {
      Output y(length, channels, channels);
      for (int64_t c = 0; c < channels; c += group)
        candidate.run({x.data() + c, weight.data() + c * width, nullptr, nullptr, y.data() + c, channels, 0,
                       channels, length, std::min(group, channels - c), width});
      return y.take();
    };
    for (const int64_t group : {1, 3, 16})
      expect_same_bits(run(group), run(channels), isa_name(candidate.isa));
  }
}

}  // namespace
}  // namespace ptq::kernels
