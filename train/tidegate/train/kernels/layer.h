// One layer and direction: sizes, tensors, masks.
//
// Dimensions: T time, B batch, I input size, H hidden, G gates. Tensors are
// row-major and time-major.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gemm.h"
#include "pointwise.h"

namespace tidegate {

enum class Cell : int64_t { lstm = 0, gru = 1, gru_reset_before = 2, rnn = 3 };

// A mask of units as rows of factors. An absent one reads the same constant row
// everywhere, which keeps branches out of the inner loops.
template <typename Real>
struct UnitMask {
  const Real* data = nullptr;
  int64_t step_stride = 0, row_stride = 0;

  const Real* row(int64_t t, int64_t b) const { return data + t * step_stride + b * row_stride; }
};

// A mask on what enters the gates, [T or 1, G or 1, B, width], or none.
template <typename Real>
struct GateMask {
  const Real* data = nullptr;
  int64_t step_stride = 0, gate_stride = 0, row_stride = 0;

  bool by_gate() const { return gate_stride != 0; }
  const Real* row(int64_t t, int64_t gate, int64_t b) const {
    return data + t * step_stride + gate * gate_stride + b * row_stride;
  }
};

constexpr int64_t kResidentBytes = 3 << 18;

// Gates that read the same masked operand, so that one product serves them all.
struct Part {
  int64_t gate, count;
  // The product with h stays apart from W_ih x: a GRU resets it.
  bool apart;
};

template <typename Real>
struct Layer {
  Cell cell;
  int64_t T, B, I, H, G;
  bool reverse;

  const Real *x;                                                  // [T, B, I]
  const Real *weight_ih, *weight_hh, *weight_mask;                // [G*H, I], [G*H, H], likewise
  const Real *bias_ih, *bias_hh;                                  // [G*H]
  const Real *h0, *c0;                                            // [B, H]
  const int64_t* lengths;                                         // [B] or null

  GateMask<Real> input, hidden;
  // Each row's own part of the mask on W_hh, or null: rows_b columns_b^T times flip_weight.
  const Real *flip_weight, *flip_rows;  // [G*H, H], [B, G*H]
  GateMask<Real> flip_hidden;           // `hidden` times the columns
  UnitMask<Real> candidate, memory, zone_cell, zone_hidden;
  Real memory_scale;

  Real* gates;   // [T, B, G*H]: products, then activations
  Real* inner;   // [T, B, H], GRU with reset after: W_hn h + b_hn
  Real* states;  // [T, B, H]: h; zero in padding
  Real* output;  // [T, B, H]: what leaves the layer; may be `states`
  Real* cells;   // [T, B, H], LSTM: c

  int64_t time(int64_t step) const { return reverse ? T - 1 - step : step; }
  int64_t length(int64_t b) const { return lengths == nullptr ? T : lengths[b]; }
  bool real(int64_t t, int64_t b) const { return t < length(b); }

  // A row of the state before a step: of the row's step before, or the initial one.
  const Real* before(const Real* sequence, const Real* initial, int64_t t, int64_t b) const {
    const bool is_first = reverse ? t >= length(b) - 1 : t == 0;
    return is_first ? initial + b * H : sequence + ((reverse ? t + 1 : t - 1) * B + b) * H;
  }

  const Real* flip_row(int64_t b, int64_t gate) const {
    return flip_rows + (b * G + gate) * H;
  }

  // Whether the weights stay in the second-level cache from step to step. If not, products with
  // x, which need not wait for h, are made for many steps at once.
  bool is_small() const {
    return G * H * (H + I) * static_cast<int64_t>(sizeof(Real)) <= kResidentBytes;
  }

  std::vector<Part> input_parts() const {
    if (!input.by_gate()) return {{0, G, false}};
    return each_gate(G);
  }

  // A GRU's candidate comes last, apart from the gates.
  std::vector<Part> hidden_parts() const {
    const bool is_gru = cell == Cell::gru || cell == Cell::gru_reset_before;
    const int64_t common = is_gru ? 2 : G;
    std::vector<Part> parts = hidden.by_gate() ? each_gate(common)
                                               : std::vector<Part>{{0, common, false}};
    if (is_gru) parts.push_back({2, 1, cell == Cell::gru});
    return parts;
  }

 private:
  static std::vector<Part> each_gate(int64_t count) {
    std::vector<Part> parts;
    for (int64_t gate = 0; gate < count; ++gate) parts.push_back({gate, 1, false});
    return parts;
  }
};

template <typename Real>
struct Gradients {
  const Real* output;                                           // [T, B, H]
  Real *x, *weight_ih, *weight_hh, *bias_ih, *bias_hh;          // x may be null
  Real *h, *c;  // [B, H]; in: of the last state, out: of the initial one
};

template <typename Real>
using Operands = std::vector<std::unique_ptr<Packed<Real>>>;

template <typename Real>
void times_row(const Real* x, const Real* __restrict__ factors, int64_t size, Real* to) {
  for (int64_t j = 0; j < size; ++j) to[j] = x[j] * factors[j];
}

template <typename Real>
void add_times_row(const Real* __restrict__ x, const Real* __restrict__ factors, int64_t size,
                   Real* __restrict__ to) {
  for (int64_t j = 0; j < size; ++j) to[j] += x[j] * factors[j];
}

}  // namespace tidegate
