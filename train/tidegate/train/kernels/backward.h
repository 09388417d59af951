// The backward pass: through the steps first, then every weight's gradient as
// one product over all steps.
#pragma once

#include "forward.h"

namespace tidegate {

template <typename Real, typename Steps>
void backward_slice(const Layer<Real>& p, const Gradients<Real>& d, const std::vector<Part>& parts,
                    const Operands<Real>& weights, int64_t b0, int64_t b1) {
  const int64_t H = p.H, rows = b1 - b0, width = p.G * H;
  Real* dh = d.h + b0 * H;
  const bool has_inner = p.cell == Cell::gru;
  std::vector<Real> product(rows * H);
  for (int64_t step = p.T - 1; step >= 0; --step) {
    const int64_t t = p.time(step), first = t * p.B + b0;
    for (int64_t i = 0; i < rows; ++i) {
      if (p.real(t, b0 + i)) {
        Steps::backward(p, d, t, b0 + i);
        continue;
      }
      std::fill_n(d.gates + (first + i) * width, width, Real(0));
      if (has_inner) std::fill_n(d.inner + (first + i) * H, H, Real(0));
    }
    // In reverse: what the reset gate multiplied comes before the reset gate.
    for (size_t index = parts.size(); index-- > 0;) {
      const Part& part = parts[index];
      const Real* from = part.apart ? d.inner + first * H : d.gates + first * width + part.gate * H;
      const bool was_reset = p.cell == Cell::gru_reset_before && part.gate == 2;
      const bool adds_up = p.hidden.data == nullptr && !was_reset;
      multiply(rows, from, part.apart ? H : width, *weights[index],
               adds_up ? dh : product.data(), H, adds_up);
      if (adds_up) continue;
      if (!was_reset) {
        add_times_row(product.data(), p.hidden.row(0, part.gate, b0), rows * H, dh);
        continue;
      }
      if (p.hidden.data != nullptr) {
        times_row(product.data(), p.hidden.row(0, part.gate, b0), rows * H, product.data());
      }
      for (int64_t i = 0; i < rows; ++i) {
        if (!p.real(t, b0 + i)) continue;
        Gru<false>::reset_backward(p, d, t, b0 + i, product.data() + i * H);
      }
    }
  }
}

// d_weight [G*H, width] = d^T operand for each part, and the sums of d over all rows.
template <typename Real>
void weight_gradients(const Layer<Real>& p, const Gradients<Real>& d,
                      const std::vector<Part>& parts, const Operands<Real>& operands, int64_t width,
                      Real* d_weight, Real* d_bias) {
  struct Piece {
    size_t part;
    int64_t row, rows;
  };
  std::vector<Piece> pieces;
  for (size_t index = 0; index < parts.size(); ++index) {
    const int64_t end = parts[index].count * p.H;
    for (int64_t row = 0; row < end; row += kRowBlock) {
      pieces.push_back({index, row, std::min(kRowBlock, end - row)});
    }
  }
  const int64_t operations = 2 * p.T * p.B * p.G * p.H * width;
  for_each_slice(pieces.size(), operations, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const Piece& piece = pieces[index];
      const Part& part = parts[piece.part];
      const int64_t row = part.gate * p.H + piece.row;
      const Real* from = part.apart ? d.inner + piece.row : d.gates + row;
      multiply_transposed(piece.rows, from, part.apart ? p.H : p.G * p.H, *operands[piece.part],
                          d_weight + row * width, width, d_bias + row);
    }
  });
}

// dx = (W_ih^T dg) * mask for all steps.
template <typename Real>
void input_gradient(const Layer<Real>& p, const Gradients<Real>& d) {
  const std::vector<Part> parts = p.input_parts();
  const Operands<Real> weights =
      backward_weights<Real>(p, parts, p.weight_ih, nullptr, p.I);
  const int64_t width = p.G * p.H;
  for_each_slice(p.T * p.B, 2 * p.T * p.B * p.I * width, [&](int64_t begin, int64_t end) {
    std::vector<Real> product(parts.size() > 1 ? kRowBlock * p.I : 0);
    for (int64_t row = begin; row < end; row += kRowBlock) {
      const int64_t rows = std::min(kRowBlock, end - row);
      Real* dx = d.x + row * p.I;
      for (size_t index = 0; index < parts.size(); ++index) {
        const Part& part = parts[index];
        Real* to = index == 0 ? dx : product.data();
        multiply(rows, d.gates + row * width + part.gate * p.H, width, *weights[index], to, p.I,
                 false);
        if (p.input.data == nullptr) continue;
        for (int64_t i = 0; i < rows; ++i) {
          const Real* mask = p.input.row((row + i) / p.B, part.gate, (row + i) % p.B);
          if (index == 0) {
            for (int64_t j = 0; j < p.I; ++j) dx[i * p.I + j] *= mask[j];
          } else {
            add_times_row(product.data() + i * p.I, mask, p.I, dx + i * p.I);
          }
        }
      }
    }
  });
}

template <typename Real, typename Steps>
void backward_pass(const Layer<Real>& p, const Gradients<Real>& d) {
  const std::vector<Part> parts = p.hidden_parts();
  {
    const Operands<Real> weights =
        backward_weights<Real>(p, parts, p.weight_hh, p.weight_mask, p.H);
    for_each_slice(p.B, 2 * p.T * p.B * p.G * p.H * p.H, [&](int64_t b0, int64_t b1) {
      backward_slice<Real, Steps>(p, d, parts, weights, b0, b1);
    });
  }
  weight_gradients(p, d, parts, states_of_parts(p, parts), p.H, d.weight_hh, d.bias_hh);
  if (p.weight_mask != nullptr) {
    for (int64_t j = 0; j < p.G * p.H * p.H; ++j) d.weight_hh[j] *= p.weight_mask[j];
  }
  const std::vector<Part> of_input = p.input_parts();
  weight_gradients(p, d, of_input, inputs_of_parts(p, of_input), p.I, d.weight_ih,
                   d.bias_ih);
  if (d.x != nullptr) input_gradient(p, d);
}

}  // namespace tidegate
