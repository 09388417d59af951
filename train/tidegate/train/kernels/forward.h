// The forward pass. A thread works on a slice of the batch for the whole
// sequence, so that there is no barrier between steps.
#pragma once

#include "gru.h"
#include "lstm.h"
#include "operands.h"
#include "rnn.h"

namespace tidegate {

// The biases that stand outside every product, [G*H].
template <typename Real>
std::vector<Real> outer_bias(const Layer<Real>& p) {
  std::vector<Real> bias(p.bias_ih, p.bias_ih + p.G * p.H);
  const int64_t count = p.cell == Cell::gru ? 2 * p.H : p.G * p.H;
  for (int64_t j = 0; j < count; ++j) bias[j] += p.bias_hh[j];
  return bias;
}

// gates = W_ih (x * mask) for all steps.
template <typename Real>
void input_products(const Layer<Real>& p) {
  const std::vector<Part> parts = p.input_parts();
  const Operands<Real> weights =
      forward_weights<Real>(p, parts, p.weight_ih, nullptr, p.I);
  const int64_t width = p.G * p.H;
  for_each_slice(p.T * p.B, 2 * p.T * p.B * p.I * width, [&](int64_t begin, int64_t end) {
    std::vector<Real> masked(p.input.data == nullptr ? 0 : kRowBlock * p.I);
    for (int64_t row = begin; row < end; row += kRowBlock) {
      const int64_t rows = std::min(kRowBlock, end - row);
      for (size_t index = 0; index < parts.size(); ++index) {
        const Part& part = parts[index];
        const Real* x = p.x + row * p.I;
        if (p.input.data != nullptr) {
          for (int64_t i = 0; i < rows; ++i) {
            const Real* mask = p.input.row((row + i) / p.B, part.gate, (row + i) % p.B);
            times_row(x + i * p.I, mask, p.I, masked.data() + i * p.I);
          }
          x = masked.data();
        }
        multiply(rows, x, p.I, *weights[index], p.gates + row * width + part.gate * p.H, width,
                 false);
      }
    }
  });
}

// What W_hh multiplies for one part: h, or h * mask computed into `masked`.
template <typename Real>
const Real* masked_rows(const Layer<Real>& p, const Part& part, int64_t b0, int64_t rows,
                        const Real* h, Real* masked) {
  if (p.hidden.data == nullptr) return h;
  times_row(h, p.hidden.row(0, part.gate, b0), rows * p.H, masked);
  return masked;
}

template <typename Real, typename Steps>
void forward_slice(const Layer<Real>& p, const std::vector<Part>& parts,
                   const Operands<Real>& weights, const Real* bias, int64_t b0, int64_t b1,
                   Real* h_n, Real* c_n) {
  const int64_t H = p.H, rows = b1 - b0, width = p.G * H;
  // Carried on in place in the last state.
  Real* h = h_n + b0 * H;
  Real* c = c_n == nullptr ? nullptr : c_n + b0 * H;
  std::copy(p.h0 + b0 * H, p.h0 + b1 * H, h);
  if (c != nullptr) std::copy(p.c0 + b0 * H, p.c0 + b1 * H, c);
  std::vector<Real> masked(rows * H), product(p.cell == Cell::gru_reset_before ? rows * H : 0);
  for (int64_t step = 0; step < p.T; ++step) {
    const int64_t t = p.time(step), first = t * p.B + b0;
    for (size_t index = 0; index < parts.size(); ++index) {
      const Part& part = parts[index];
      const Real* operand = h;
      if (p.cell == Cell::gru_reset_before && part.gate == 2) {
        for (int64_t i = 0; i < rows; ++i) {
          Gru<false>::reset(p, bias, t, b0 + i, h + i * H, product.data() + i * H);
        }
        operand = product.data();
      }
      operand = masked_rows(p, part, b0, rows, operand, masked.data());
      Real* to = part.apart ? p.inner + first * H : p.gates + first * width + part.gate * H;
      multiply(rows, operand, H, *weights[index], to, part.apart ? H : width, !part.apart);
    }
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t b = b0 + i, at = (first + i) * H;
      if (!p.real(t, b)) {
        std::fill(p.states + at, p.states + at + H, Real(0));
        if (p.output != p.states) std::fill(p.output + at, p.output + at + H, Real(0));
        if (c != nullptr) std::fill(p.cells + at, p.cells + at + H, Real(0));
        continue;
      }
      Steps::forward(p, bias, t, b, h + i * H, c == nullptr ? nullptr : c + i * H);
      if (p.output == p.states) continue;
      const Real* exposed = p.memory.row(t, b);
      for (int64_t j = 0; j < H; ++j) {
        p.output[at + j] = p.states[at + j] * exposed[j] * p.memory_scale;
      }
    }
  }
}

// Fills gates, inner, states, output and cells; and the last state, c_n for the LSTM only.
template <typename Real, typename Steps>
void forward_pass(const Layer<Real>& p, Real* h_n, Real* c_n) {
  input_products(p);
  const std::vector<Part> parts = p.hidden_parts();
  const Operands<Real> weights =
      forward_weights<Real>(p, parts, p.weight_hh, p.weight_mask, p.H);
  const std::vector<Real> bias = outer_bias(p);
  for_each_slice(p.B, 2 * p.T * p.B * p.G * p.H * p.H, [&](int64_t b0, int64_t b1) {
    forward_slice<Real, Steps>(p, parts, weights, bias.data(), b0, b1, h_n, c_n);
  });
}

}  // namespace tidegate
