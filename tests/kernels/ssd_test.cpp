// The scan of Mamba-2: every instruction set the machine has against the plain loops.
#include "inputs.h"

namespace ptq::kernels {
namespace {

struct SsdShape {
  int64_t length, channels, state;
};

// Rows of u, dt, y, B and C are further apart than they are long, by different amounts.
struct SsdCase {
  SsdCase(const SsdShape& s, const std::string& name)
      : shape(s),
        u(values(name, s.length, s.channels + 1, 1)),
        dt(values(name, s.length, 2, 2)),
        B(values("normal", s.length, s.state + 1, 4)),
        C(values("normal", s.length, s.state + 2, 5)),
        D(values("normal", 1, s.channels, 7)),
        h(values("normal", s.state, s.channels, 8)) {}

  struct Result {
    std::vector<float> y, h;
  };

  // In pieces of `steps` time steps.
  Result run(const Candidate<SsdScan>& kernel, int64_t steps) const {
    Output y(shape.length, shape.channels, shape.channels + 4);
    Output state(shape.state, shape.channels, shape.channels);
    std::copy(h.begin(), h.end(), state.data());
    for (int64_t begin = 0; begin < shape.length; begin += steps) {
      kernel.run({.u = u.data() + begin * (shape.channels + 1),
                  .dt = dt.data() + begin * 2,
                  .B = B.data() + begin * (shape.state + 1),
                  .C = C.data() + begin * (shape.state + 2),
                  .D = D.data(),
                  .h = state.data(),
                  .y = y.data() + begin * (shape.channels + 4),
                  .u_stride = shape.channels + 1,
                  .dt_stride = 2,
                  .B_stride = shape.state + 1,
                  .C_stride = shape.state + 2,
                  .y_stride = shape.channels + 4,
                  .length = std::min(steps, shape.length - begin),
                  .channels = shape.channels,
                  .state = shape.state,
                  .A = A,
                  .dt_bias = dt_bias,
                  .delta_low = low,
                  .delta_high = high});
    }
    return {y.take(), state.take()};
  }

  Result run(const Candidate<SsdScan>& kernel) const { return run(kernel, shape.length); }

  SsdShape shape;
  std::vector<float> u, dt, B, C, D, h;
  float A = -1.3F, dt_bias = -0.5F, low = 0, high = INFINITY;
};

const std::vector<SsdShape> kShapes = {{1, 1, 1},   {1, 64, 128}, {5, 7, 3},    {33, 24, 16}, {16, 12, 10},
                                       {17, 16, 5}, {40, 33, 33}, {40, 9, 256}, {200, 48, 16}};

TEST(SsdScan, EveryIsaAgreesWithThePlainLoops) {
  for (const Candidate<SsdScan>& candidate : vectorized<SsdScan>()) {
    for (const std::string name : {"flat", "ramp", "normal", "outlier", "zeros", "denormals"}) {
      for (const SsdShape& shape : kShapes) {
        SsdCase scan(shape, name);
        const std::string what = std::string(isa_name(candidate.isa)) + " " + name + " length " +
                                 std::to_string(shape.length) + " channels " +
                                 std::to_string(shape.channels) + " state " + std::to_string(shape.state);
        for (const auto& [low, high] : {std::pair(0.0F, INFINITY), std::pair(0.3F, 0.6F)}) {
          scan.low = low;
          scan.high = high;
          const SsdCase::Result got = scan.run(candidate), expected = scan.run(plain_loops<SsdScan>());
          expect_close(got.y, expected.y, 2e-6, what);
          expect_close(got.h, expected.h, 2e-6, what);
        }
      }
    }
  }
}

TEST(SsdScan, SplitsOfTimeGiveTheSameBits) {
  for (const Candidate<SsdScan>& candidate : supported<SsdScan>()) {
    for (const SsdShape& shape : {SsdShape{70, 53, 16}, SsdShape{70, 16, 7}}) {
      SsdCase scan(shape, "normal");
      scan.high = 0.7F;
      const SsdCase::Result whole = scan.run(candidate);
      for (const int64_t steps : {1, 7, 16, 32}) {
        const SsdCase::Result parts = scan.run(candidate, steps);
        expect_same_bits(parts.y, whole.y, isa_name(candidate.isa));
        expect_same_bits(parts.h, whole.h, isa_name(candidate.isa));
      }
    }
  }
}

// dt of -100 to 100: from no decay at all to a state that is forgotten at once.
TEST(SsdScan, ExtremeStepsStayFiniteAndAgree) {
  for (const Candidate<SsdScan>& candidate : vectorized<SsdScan>()) {
    SsdCase scan({201, 20, 16}, "normal");
    for (size_t i = 0; i < scan.dt.size(); ++i) scan.dt[i] = static_cast<float>(i / 2) - 100.0F;
    const SsdCase::Result got = scan.run(candidate), expected = scan.run(plain_loops<SsdScan>());
    for (const float y : got.y) ASSERT_TRUE(std::isfinite(y)) << isa_name(candidate.isa);
    expect_close(got.y, expected.y, 2e-6, isa_name(candidate.isa));
  }
}

// With B = 0 and a tiny delta the state must stay: a decay that is off by one unit would drift by 512 of them.
TEST(SsdScan, TinyStepsDoNotDrift) {
  for (const Candidate<SsdScan>& candidate : supported<SsdScan>()) {
    SsdCase scan({512, 16, 16}, "normal");
    std::fill(scan.B.begin(), scan.B.end(), 0.0F);
    std::fill(scan.dt.begin(), scan.dt.end(), -30.0F);
    expect_same_bits(scan.run(candidate).h, scan.h, isa_name(candidate.isa));
  }
}

// A clamp must not make a number of it.
TEST(SsdScan, NanStaysNan) {
  for (const Candidate<SsdScan>& candidate : supported<SsdScan>()) {
    SsdCase scan({3, 20, 4}, "normal");
    scan.low = 0.1F;
    scan.high = 0.2F;
    scan.dt[2] = NAN;  // of the second step
    const SsdCase::Result got = scan.run(candidate);
    for (size_t i = 0; i < got.y.size(); ++i)
      ASSERT_EQ(std::isnan(got.y[i]), i >= 20) << isa_name(candidate.isa) << " at " << i;
  }
}

}  // namespace
}  // namespace ptq::kernels
