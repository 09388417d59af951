// Small blocks of a matrix, transposed within the vector registers.
#pragma once

#include <cstdint>
#include <utility>

#include "simd.h"

namespace tidegate {

// Columns of a matrix that lie as rows in memory: element (r, c) is at from[c * stride + r],
// times the factor at the same place, for r < rows.
template <typename Real>
struct Columns {
  const Real* from;
  const Real* factors;  // or null
  int64_t stride, rows;
};

// The elements of a and b, those of b counted on from those of a.
template <typename Real, int... kIndex>
typename Simd<Real>::Vector shuffled(typename Simd<Real>::Vector a, typename Simd<Real>::Vector b,
                                     std::integer_sequence<int, kIndex...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kIndex...);
#else
  return __builtin_shuffle(a, b, typename Simd<Real>::Index{kIndex...});
#endif
}

// Swaps the off-diagonal blocks of kSize x kSize in all blocks twice as wide and high; from 1
// up to half the vector that is a transposition.
template <typename Real, int kSize, int... kLane>
void swap_blocks(typename Simd<Real>::Vector* rows, std::integer_sequence<int, kLane...> lanes) {
  constexpr int count = sizeof...(kLane);
#pragma GCC unroll 16
  for (int r = 0; r < count; ++r) {
    if (r & kSize) continue;
    const auto upper = rows[r], lower = rows[r + kSize];
    rows[r] = shuffled<Real>(
        upper, lower,
        std::integer_sequence<int, (kLane & kSize ? count + kLane - kSize : kLane)...>());
    rows[r + kSize] = shuffled<Real>(
        upper, lower,
        std::integer_sequence<int, (kLane & kSize ? count + kLane : kLane + kSize)...>());
  }
  if constexpr (2 * kSize < count) swap_blocks<Real, 2 * kSize>(rows, lanes);
}

// Writes rows of `columns`, the vector's width of columns and rows, with `stride` between them.
template <typename Real>
void transpose_block(const Columns<Real>& columns, Real* to, int64_t stride) {
  using Unaligned = typename Simd<Real>::Unaligned;
  constexpr int lanes = kLanes<Real>;
  typename Simd<Real>::Vector rows[lanes];
#pragma GCC unroll 16
  for (int c = 0; c < lanes; ++c) {
    const int64_t at = c * columns.stride;
    rows[c] = *reinterpret_cast<const Unaligned*>(columns.from + at);
    if (columns.factors == nullptr) continue;
    rows[c] *= *reinterpret_cast<const Unaligned*>(columns.factors + at);
  }
  swap_blocks<Real, 1>(rows, std::make_integer_sequence<int, lanes>());
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) *reinterpret_cast<Unaligned*>(to + r * stride) = rows[r];
}

// The same for `count` columns, up to the vector's width, and any rows; zeros beyond the columns.
template <typename Real>
void transpose(const Columns<Real>& columns, int64_t count, Real* to, int64_t stride) {
  if (count == kLanes<Real> && columns.rows == kLanes<Real>) {
    return transpose_block(columns, to, stride);
  }
  for (int64_t r = 0; r < columns.rows; ++r, to += stride) {
    for (int64_t c = 0; c < count; ++c) {
      const int64_t at = c * columns.stride + r;
      to[c] = columns.factors == nullptr ? columns.from[at]
                                         : columns.from[at] * columns.factors[at];
    }
    for (int64_t c = count; c < kLanes<Real>; ++c) to[c] = 0;
  }
}

}  // namespace tidegate
