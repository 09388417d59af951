// Matrix products with one operand packed beforehand.
//
// A recurrence multiplies a few rows (the batch) by the same matrix at every
// step. The matrix is laid out once, in panels that fill the vector registers,
// and the rows are read where they lie. After Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", ACM TOMS 34(3), 2008.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "transpose.h"

namespace tidegate {

// A tile of the result is up to kTileRows rows by one or two vectors.
template <typename Real>
constexpr int64_t kPanel = 2 * kLanes<Real>;
// A block of a panel this deep stays in the first-level cache.
constexpr int64_t kDepth = 256;
// Tiles that share what is packed of the left operand, or of a long one.
constexpr int64_t kRowBlock = 10 * kTileRows;

// C [kRows, kVectors] = A [kRows, depth] B [depth, kVectors], plus C if asked.
// A's element (r, k) is at r * row_stride + k; with kPackedRows at k * kRows + r.
template <typename Real, int kRows, int kVectors, bool kPackedRows>
void tile(int64_t depth, const Real* __restrict__ a, int64_t row_stride,
          const Real* __restrict__ b, Real* __restrict__ c, int64_t c_stride, bool accumulate) {
  using Vector = typename Simd<Real>::Vector;
  using Unaligned = typename Simd<Real>::Unaligned;
  constexpr int64_t lanes = kLanes<Real>;
  Vector sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = accumulate ? *reinterpret_cast<const Unaligned*>(c + r * c_stride + v * lanes)
                              : Vector{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      right[v] = *reinterpret_cast<const Unaligned*>(b + v * lanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Real left = kPackedRows ? a[r] : a[r * row_stride];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += left * right[v];
    }
    a += kPackedRows ? kRows : 1;
    b += kVectors * lanes;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      *reinterpret_cast<Unaligned*>(c + r * c_stride + v * lanes) = sums[r][v];
    }
  }
}

template <typename Real>
using Tile = void (*)(int64_t, const Real*, int64_t, const Real*, Real*, int64_t, bool);

// The tiles of 1 to kTileRows rows.
template <typename Real, int kVectors, bool kPackedRows, int... kIndex>
constexpr std::array<Tile<Real>, kTileRows> tiles_of(std::integer_sequence<int, kIndex...>) {
  return {tile<Real, kIndex + 1, kVectors, kPackedRows>...};
}

template <typename Real, int kVectors, bool kPackedRows>
Tile<Real> tile_for(int64_t rows) {
  static constexpr auto tiles =
      tiles_of<Real, kVectors, kPackedRows>(std::make_integer_sequence<int, kTileRows>());
  return tiles[rows - 1];
}

// Calls work(first, count) for pieces of rows of nearly equal height, as few as fit a tile.
template <typename Work>
void for_each_tile(int64_t rows, const Work& work) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t index = 0; index < tiles; ++index) {
    const int64_t first = rows * index / tiles;
    work(first, rows * (index + 1) / tiles - first);
  }
}

// A right operand B [rows, columns]: blocks of kDepth rows, in each the panels one
// after another, in each panel row by row. Columns beyond the last are zero.
template <typename Real>
class Packed {
 public:
  Packed(int64_t rows, int64_t columns)
      : rows_(rows),
        columns_(columns),
        panels_((columns + kPanel<Real> - 1) / kPanel<Real>),
        data_(new Real[rows * panels_ * kPanel<Real> + kPanel<Real>]) {}

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t panels() const { return panels_; }

  // The last panel may be one vector wide.
  int64_t width(int64_t panel) const {
    return columns_ - panel * kPanel<Real> <= kLanes<Real> ? kLanes<Real> : kPanel<Real>;
  }

  const Real* block(int64_t first_row, int64_t panel) const {
    const int64_t depth = std::min(kDepth, rows_ - first_row);
    return data_.get() + (first_row * panels_ + panel * depth) * kPanel<Real>;
  }

  // Fills one panel; fill(row, first_column, count, to) writes count elements.
  template <typename Fill>
  void pack(int64_t panel, const Fill& fill) {
    const int64_t first = panel * kPanel<Real>, wide = width(panel);
    const int64_t count = std::min(wide, columns_ - first);
    for (int64_t begin = 0; begin < rows_; begin += kDepth) {
      Real* to = const_cast<Real*>(block(begin, panel));
      for (int64_t row = begin; row < std::min(rows_, begin + kDepth); ++row, to += wide) {
        fill(row, first, count, to);
        for (int64_t j = count; j < wide; ++j) to[j] = 0;
      }
    }
  }

  // The same from columns that lie as rows in memory; source(row, first_column) gives them from
  // this row on.
  template <typename Source>
  void pack_transposed(int64_t panel, const Source& source) {
    const int64_t first = panel * kPanel<Real>, wide = width(panel);
    for (int64_t row = 0; row < rows_;) {
      const int64_t in_block = row % kDepth;
      Columns<Real> columns = source(row, first);
      columns.rows = std::min({columns.rows, kDepth - in_block, kLanes<Real>});
      Real* to = const_cast<Real*>(block(row - in_block, panel)) + in_block * wide;
      for (int64_t column = first; column < first + wide; column += kLanes<Real>) {
        transpose(columns, std::min(kLanes<Real>, columns_ - column), to, wide);
        columns.from += kLanes<Real> * columns.stride;
        if (columns.factors != nullptr) columns.factors += kLanes<Real> * columns.stride;
        to += kLanes<Real>;
      }
      row += columns.rows;
    }
  }

 private:
  int64_t rows_, columns_, panels_;
  std::unique_ptr<Real[]> data_;
};

// One tile of C against one block of a panel, whatever their sizes.
template <typename Real, bool kPackedRows>
void tile_against_panel(int64_t rows, int64_t depth, const Real* a, int64_t a_stride,
                        const Packed<Real>& b, int64_t first_row, int64_t panel, Real* c,
                        int64_t c_stride, bool accumulate) {
  const int64_t width = b.width(panel);
  const int64_t count = std::min(width, b.columns() - panel * kPanel<Real>);
  const Tile<Real> product = width == kPanel<Real> ? tile_for<Real, 2, kPackedRows>(rows)
                                                   : tile_for<Real, 1, kPackedRows>(rows);
  const Real* right = b.block(first_row, panel);
  c += panel * kPanel<Real>;
  if (count == width) return product(depth, a, a_stride, right, c, c_stride, accumulate);
  // A narrow edge: computed aside, so that nothing beyond it is touched.
  Real edge[kTileRows * kPanel<Real>];
  product(depth, a, a_stride, right, edge, width, false);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < count; ++j) {
      const Real value = edge[r * width + j];
      c[r * c_stride + j] = accumulate ? c[r * c_stride + j] + value : value;
    }
  }
}

// C [rows, b.columns] = A [rows, b.rows] B, plus C if asked; strides are between rows.
template <typename Real>
void multiply(int64_t rows, const Real* a, int64_t a_stride, const Packed<Real>& b, Real* c,
              int64_t c_stride, bool accumulate) {
  for (int64_t row = 0; row < rows; row += kRowBlock) {
    const int64_t height = std::min(kRowBlock, rows - row);
    for (int64_t k = 0; k < b.rows(); k += kDepth) {
      const int64_t depth = std::min(kDepth, b.rows() - k);
      for (int64_t panel = 0; panel < b.panels(); ++panel) {
        for_each_tile(height, [&](int64_t first, int64_t count) {
          const int64_t at = row + first;
          tile_against_panel<Real, false>(count, depth, a + at * a_stride + k, a_stride, b, k,
                                          panel, c + at * c_stride, c_stride, accumulate || k > 0);
        });
      }
    }
  }
}

// Lays kRows columns of A side by side, [depth, kRows], and adds them up.
template <typename Real, int kRows>
void gather_columns(int64_t depth, const Real* __restrict__ a, int64_t stride,
                    Real* __restrict__ to, Real* __restrict__ sums) {
  Real total[kRows] = {};
  for (int64_t k = 0; k < depth; ++k, a += stride, to += kRows) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      to[r] = a[r];
      total[r] += a[r];
    }
  }
  for (int r = 0; r < kRows; ++r) sums[r] += total[r];
}

template <typename Real>
using Gather = void (*)(int64_t, const Real*, int64_t, Real*, Real*);

template <typename Real, int... kIndex>
constexpr std::array<Gather<Real>, kTileRows> gathers_of(std::integer_sequence<int, kIndex...>) {
  return {gather_columns<Real, kIndex + 1>...};
}

// Where a product with a packed operand goes.
template <typename Real>
struct Target {
  const Packed<Real>* b;
  Real* c;
  int64_t c_stride;
};

// C [rows, columns] = A^T B of each target, plus C if asked, for A [depth, rows], rows <=
// kRowBlock; and sums += those of A's columns.
template <typename Real>
void multiply_transposed(int64_t rows, int64_t depth, const Real* a, int64_t a_stride,
                         const std::vector<Target<Real>>& targets, Real* sums,
                         bool accumulate) {
  static constexpr auto gathers =
      gathers_of<Real>(std::make_integer_sequence<int, kTileRows>());
  std::vector<Real> packed(rows * std::min(kDepth, depth));
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t deep = std::min(kDepth, depth - k);
    for_each_tile(rows, [&](int64_t first, int64_t count) {
      gathers[count - 1](deep, a + k * a_stride + first, a_stride, packed.data() + first * deep,
                         sums + first);
    });
    for (const Target<Real>& target : targets) {
      for (int64_t panel = 0; panel < target.b->panels(); ++panel) {
        for_each_tile(rows, [&](int64_t first, int64_t count) {
          tile_against_panel<Real, true>(count, deep, packed.data() + first * deep, 0, *target.b, k,
                                         panel, target.c + first * target.c_stride,
                                         target.c_stride, accumulate || k > 0);
        });
      }
    }
  }
}

}  // namespace tidegate
