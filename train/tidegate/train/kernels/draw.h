// Random factors that depend on where they are used alone; counter_rng.py is the specification.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace tidegate {

constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15;

// SplitMix64's finalizer.
inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// One row of factors from `first` to `last`. Its arguments are values: a reference could alias
// what is written, and each element would load it again.
template <typename Real>
void draw_row(uint64_t base, uint64_t threshold, int64_t first, int64_t last, Real dropped,
              Real kept, Real* __restrict__ to) {
#pragma omp simd
  for (int64_t unit = first; unit < last; ++unit) {
    const uint64_t bits = mix(base + static_cast<uint64_t>(unit) * kGoldenGamma);
    to[unit] = bits >> 40 < threshold ? dropped : kept;
  }
}

// factors [times, samples, units]: `dropped` where the upper 24 bits of a draw are below the
// threshold, else `kept`.
template <typename Real>
void draw(uint64_t key, uint64_t threshold, int64_t times, int64_t count, const int64_t* samples,
          int64_t units, Real dropped, Real kept, Real* factors) {
  const int64_t total = times * count * units;
  for_each_slice(total, 8 * total, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end;) {
      const int64_t row = at / units, first = at % units;
      const int64_t last = std::min(units, first + end - at);
      const uint64_t sample = mix(static_cast<uint64_t>(samples[row % count]) * kGoldenGamma + key);
      const uint64_t base = mix(sample + static_cast<uint64_t>(row / count) * kGoldenGamma);
      draw_row(base, threshold, first, last, dropped, kept, factors + row * units);
      at += last - first;
    }
  });
}

}  // namespace tidegate
