// The processor's vectors, and how many rows of them its registers hold.
#pragma once

#include <cstdint>
#include <type_traits>

namespace tidegate {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kTileRows = 12;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32, kTileRows = 6;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16, kTileRows = 12;
#else
constexpr int kVectorBytes = 16, kTileRows = 6;
#endif

template <typename Real>
constexpr int64_t kLanes = kVectorBytes / sizeof(Real);

template <typename Real>
struct Simd {
  typedef Real Vector __attribute__((vector_size(kVectorBytes)));
  typedef Real Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(Real)), may_alias));
  // Of the same width, to say which elements to take.
  typedef std::conditional_t<sizeof(Real) == 4, int32_t, int64_t> Integer;
  typedef Integer Index __attribute__((vector_size(kVectorBytes)));
};

}  // namespace tidegate
