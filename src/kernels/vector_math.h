// exp, softplus and silu on vectors.
//
// 2^x = 2^n 2^r with n the nearest integer. 2^r is a polynomial of degree 5 on [-1/2, 1/2] with the smallest
// largest relative error (9e-8) among those with constant term 1. That constraint matters to the scan: a
// decay of 2^-0.00001 is applied at every step, and a polynomial that is off by 1e-7 at 0 would drift by that
// much a step.
//
// softplus(x) = max(x, 0) + log(1 + e), e = exp(-|x|), which overflows nowhere and is x above 20 without a
// test. log(1 + e) = 2 atanh(s), s = e / (2 + e) <= 1/3, atanh(s) / s a polynomial in s^2 (error 5e-9): right
// in relative terms for small e too.
//
// Include after one of vec_avx2.h and vec_avx512.h.
#pragma once

namespace ptq::kernels {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

// 2^r for r in [-1/2, 1/2]. `fine` spends one more degree: 2e-9.
template <bool fine>
inline Vec exp2_fraction(Vec r) {
  if constexpr (fine) {
    Vec p = fma(broadcast(0.00015353361959569156f), r, broadcast(0.0013398875016719103f));
    p = fma(p, r, broadcast(0.00961843691766262f));
    p = fma(p, r, broadcast(0.055503323674201965f));
    p = fma(p, r, broadcast(0.24022647738456726f));
    p = fma(p, r, broadcast(0.6931471824645996f));
    return fma(p, r, broadcast(1.0f));
  }
  Vec p = fma(broadcast(0.001326472731307149f), r, broadcast(0.009671512991189957f));
  p = fma(p, r, broadcast(0.05550733581185341f));
  p = fma(p, r, broadcast(0.24022242426872253f));
  p = fma(p, r, broadcast(0.6931470036506653f));
  return fma(p, r, broadcast(1.0f));
}

inline Vec exp2(Vec x) {
  x = clamp_exponent(x);
  const Vec r = fraction(x);
  return scale_by_power(exp2_fraction<false>(r), x, r);
}

// The remainder is taken from x in two parts of ln 2, because x log2(e) has lost the low bits of a large x.
inline Vec exp(Vec x) {
  x = at_most(at_least(x, broadcast(-104.0f)), broadcast(89.0f));
  const Vec n = round_even(mul(x, broadcast(kLog2E)));
  Vec r = fnma(n, broadcast(0.693145751953125f), x);
  r = fnma(n, broadcast(1.428606765330187e-6f), r);
  return scale_by_power(exp2_fraction<true>(mul(r, broadcast(kLog2E))), clamp_exponent(n), zero());
}

inline Vec softplus(Vec x) {
  const Vec e = exp(negative_abs(x));
  const Vec s = div(e, add(e, broadcast(2.0f)));
  const Vec t = mul(s, s);
  Vec q = fma(broadcast(0.14005997776985168f), t, broadcast(0.14000901579856873f));
  q = fma(q, t, broadcast(0.2001076340675354f));
  q = fma(q, t, broadcast(0.3333320915699005f));
  q = fma(q, t, broadcast(1.0f));
  return fma(add(s, s), q, at_least(x, zero()));
}

inline Vec silu(Vec x) {
  return div(x, add(broadcast(1.0f), exp(sub(zero(), x))));
}

}  // namespace
}  // namespace ptq::kernels
