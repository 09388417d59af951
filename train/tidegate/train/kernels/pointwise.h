// The transcendental functions of the gates, written so that a compiler turns
// a loop over them into vector instructions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace tidegate {

// exp(x) by range reduction, x = n ln 2 + r, and a Taylor polynomial in r of
// degree 6 (|r| <= 0.347: relative error below 2e-7, a few float32 roundings).
// Beyond 80 on either side it stays where it is, which no gate can tell from its limit.
inline float exponential(float x) {
  x = x < -80.0f ? -80.0f : (x > 80.0f ? 80.0f : x);
  const float n = std::nearbyint(x * 1.44269504f);
  // ln 2 in two parts, the first exact in few bits.
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

// 1 / x for 1 <= x < 2^120: a guess from the bits, good to an eighth, and three steps of
// Newton's method, each of which squares the error. A division takes longer than all of it.
inline float reciprocal(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = 0x7EF311C7 - bits;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  y += y * (1.0f - x * y);
  y += y * (1.0f - x * y);
  y += y * (1.0f - x * y);
  return y;
}

inline float sigmoid(float x) { return reciprocal(1.0f + exponential(-x)); }

// Near zero (e - 1) / (e + 1) cancels; there the odd Taylor series is exact enough.
inline float hyperbolic_tangent(float x) {
  const float square = x * x;
  float series = 62.0f / 2835.0f;
  series = series * square - 17.0f / 315.0f;
  series = series * square + 2.0f / 15.0f;
  series = series * square - 1.0f / 3.0f;
  series = x + x * square * series;
  const float e = exponential(2.0f * x);
  const float ratio = 1.0f - 2.0f * reciprocal(e + 1.0f);
  return square < 0.09f ? series : ratio;
}

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
inline double hyperbolic_tangent(double x) { return std::tanh(x); }

}  // namespace tidegate
