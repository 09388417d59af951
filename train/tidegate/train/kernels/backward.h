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

// dW_ih = dg^T (x * mask) and dW_hh = dg^T (h_{t-1} * mask), over all steps and rows; and the
// biases' gradients, which are sums of dg.
template <typename Real>
void weight_gradients(const Layer<Real>& p, const Gradients<Real>& d) {
  const std::vector<Part> hidden_parts = p.hidden_parts(), input_parts = p.input_parts();
  const Operands<Real> states = states_of_parts(p, hidden_parts);
  const Operands<Real> inputs = inputs_of_parts(p, input_parts);
  struct Piece {
    size_t part;
    int64_t row, rows;
  };
  // A piece lies within one gate if the inputs differ from gate to gate.
  const int64_t gate_rows = p.input.by_gate() ? p.H : p.G * p.H;
  std::vector<Piece> pieces;
  for (size_t index = 0; index < hidden_parts.size(); ++index) {
    const Part& part = hidden_parts[index];
    const int64_t end = (part.gate + part.count) * p.H;
    for (int64_t row = part.gate * p.H; row < end;) {
      const int64_t gate_end = (row / gate_rows + 1) * gate_rows;
      const int64_t rows = std::min({kRowBlock, end - row, gate_end - row});
      pieces.push_back({index, row, rows});
      row += rows;
    }
  }
  const int64_t depth = p.T * p.B, width = p.G * p.H;
  for_each_slice(pieces.size(), 2 * depth * width * (p.H + p.I), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const auto [part, row, rows] = pieces[index];
      const Target<Real> of_state{states[part].get(), d.weight_hh + row * p.H, p.H};
      const Target<Real> of_input{inputs[p.input.by_gate() ? row / p.H : 0].get(),
                                  d.weight_ih + row * p.I, p.I};
      const Real* from = d.gates + row;
      if (hidden_parts[part].apart) {
        const int64_t inner = row - hidden_parts[part].gate * p.H;
        multiply_transposed(rows, depth, d.inner + inner, p.H, {of_state}, d.bias_hh + row);
        multiply_transposed(rows, depth, from, width, {of_input}, d.bias_ih + row);
      } else {
        multiply_transposed(rows, depth, from, width, {of_state, of_input}, d.bias_ih + row);
        std::copy(d.bias_ih + row, d.bias_ih + row + rows, d.bias_hh + row);
      }
      if (p.weight_mask == nullptr) continue;
      times_row(of_state.c, p.weight_mask + row * p.H, rows * p.H, of_state.c);
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
  const Operands<Real> weights = backward_weights<Real>(p, parts, p.weight_hh, p.weight_mask, p.H);
  for_each_slice(p.B, 2 * p.T * p.B * p.G * p.H * p.H, [&](int64_t b0, int64_t b1) {
    backward_slice<Real, Steps>(p, d, parts, weights, b0, b1);
  });
  weight_gradients(p, d);
  if (d.x != nullptr) input_gradient(p, d);
}

}  // namespace tidegate
