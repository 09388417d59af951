// The backward pass, some steps at a time: through the steps, then what they add
// to the gradients of the weights as one product, while their gates' gradients
// are still in the cache.
#pragma once

#include "forward.h"

namespace tidegate {

// Gradients of the gates at some times.
template <typename Real>
struct GateGradients {
  GateGradients(const Layer<Real>& p, int64_t count)
      : gates(new Real[count * p.B * p.G * p.H]),
        inner(p.cell == Cell::gru ? new Real[count * p.B * p.H] : nullptr),
        flipped(p.flip_weight ? new Real[count * p.B * p.G * p.H] : nullptr) {}

  std::unique_ptr<Real[]> gates;  // [count, B, G*H]
  std::unique_ptr<Real[]> inner;  // [count, B, H], GRU with reset after: of W_hn h + b_hn
  // [count, B, G*H]: of what W_hh's products add to, times each row's signs.
  std::unique_ptr<Real[]> flipped;
};

template <typename Real>
struct BackwardWeights {
  BackwardWeights(const Layer<Real>& p, bool needs_dx)
      : input_parts(p.input_parts()),
        hidden_parts(p.hidden_parts()),
        hidden(backward_weights<Real>(p, hidden_parts, p.weight_hh, p.weight_mask, p.H)) {
    if (p.flip_weight != nullptr) {
      flipped = backward_weights<Real>(p, hidden_parts, p.weight_hh, p.flip_weight, p.H);
    }
    if (needs_dx) input = backward_weights<Real>(p, input_parts, p.weight_ih, nullptr, p.I);
  }

  std::vector<Part> input_parts, hidden_parts;
  Operands<Real> hidden, input, flipped;
};

// Adds what each row's own part of the masked W_hh hands back: columns * W^T (rows * dg), for
// `count` rows of dg; keeps rows * dg at `flipped`. Scratch of [count, H].
template <typename Real>
void add_flipped_gradient(const Layer<Real>& p, const BackwardWeights<Real>& weights, size_t index,
                          int64_t b0, int64_t count, const Real* from, int64_t stride,
                          Real* flipped, Real* scratch, Real* to) {
  if (weights.flipped.empty()) return;
  const Part& part = weights.hidden_parts[index];
  const int64_t width = p.G * p.H;
  Real* turned = flipped + part.gate * p.H;
  for (int64_t i = 0; i < count; ++i) {
    times_row(from + i * stride, p.flip_row(b0 + i, part.gate), part.count * p.H,
              turned + i * width);
  }
  multiply(count, turned, width, *weights.flipped[index], scratch, p.H, false);
  add_times_row(scratch, p.flip_hidden.row(0, part.gate, b0), count * p.H, to);
}

// One step's share of dh, for rows of gate gradients at `gates` and `inner`.
template <typename Real>
void hidden_gradient(const Layer<Real>& p, const Gradients<Real>& d,
                     const BackwardWeights<Real>& weights, int64_t t, int64_t b0, int64_t rows,
                     Real* gates, const Real* inner, Real* flipped, Real* scratch) {
  const int64_t H = p.H, width = p.G * H;
  Real* dh = d.h + b0 * H;
  // In reverse: what the reset gate multiplied comes before the reset gate.
  for (size_t index = weights.hidden_parts.size(); index-- > 0;) {
    const Part& part = weights.hidden_parts[index];
    const Real* from = part.apart ? inner : gates + part.gate * H;
    const bool was_reset = p.cell == Cell::gru_reset_before && part.gate == 2;
    const bool adds_up = p.hidden.data == nullptr && !was_reset;
    const int64_t stride = part.apart ? H : width;
    multiply(rows, from, stride, *weights.hidden[index], adds_up ? dh : scratch, H, adds_up);
    if (was_reset) {
      masked_rows(p.hidden, 0, part.gate, b0, rows, scratch, H, scratch);
    } else if (!adds_up) {
      add_times_row(scratch, p.hidden.row(0, part.gate, b0), rows * H, dh);
    }
    add_flipped_gradient(p, weights, index, b0, rows, from, stride, flipped, scratch + rows * H,
                         was_reset ? scratch : dh);
    if (!was_reset) continue;
    for (int64_t i = 0; i < rows; ++i) {
      if (!p.real(t, b0 + i)) continue;
      Gru<false>::reset_backward(p, d, t, b0 + i, gates + i * width, scratch + i * H);
    }
  }
}

// dx = (W_ih^T dg) * mask of rows begin to end of x, [T*B, I].
template <typename Real>
void input_gradient(const Layer<Real>& p, const Gradients<Real>& d,
                    const BackwardWeights<Real>& weights, int64_t begin, int64_t end,
                    const Real* gates, Real* scratch) {
  const int64_t rows = end - begin;
  Real* dx = d.x + begin * p.I;
  for (size_t index = 0; index < weights.input_parts.size(); ++index) {
    const int64_t gate = weights.input_parts[index].gate;
    Real* to = index == 0 ? dx : scratch;
    multiply(rows, gates + gate * p.H, p.G * p.H, *weights.input[index], to, p.I, false);
    if (p.input.data == nullptr) continue;
    for (int64_t i = 0; i < rows; ++i) {
      const Real* mask = p.input.row((begin + i) / p.B, gate, (begin + i) % p.B);
      if (index == 0) times_row(dx + i * p.I, mask, p.I, dx + i * p.I);
      if (index > 0) add_times_row(scratch + i * p.I, mask, p.I, dx + i * p.I);
    }
  }
}

template <typename Real, typename Step>
void backward_slice(const Layer<Real>& p, const Gradients<Real>& d,
                    const BackwardWeights<Real>& weights, const GateGradients<Real>& of_gates,
                    Times times, int64_t b0, int64_t b1) {
  const int64_t H = p.H, rows = b1 - b0, width = p.G * H;
  std::vector<Real> scratch(rows * std::max(2 * H, p.I));
  for (int64_t step = 0; step < times.count; ++step) {
    const int64_t offset = p.reverse ? step : times.count - 1 - step;
    const int64_t t = times.first + offset, first = offset * p.B + b0;
    Real* gates = of_gates.gates.get() + first * width;
    Real* inner = of_gates.inner ? of_gates.inner.get() + first * H : nullptr;
    for (int64_t i = 0; i < rows; ++i) {
      Real* inner_row = inner == nullptr ? nullptr : inner + i * H;
      if (p.real(t, b0 + i)) {
        Step::backward(p, d, t, b0 + i, gates + i * width, inner_row);
        continue;
      }
      std::fill_n(gates + i * width, width, Real(0));
      if (inner != nullptr) std::fill_n(inner_row, H, Real(0));
    }
    Real* flipped = of_gates.flipped ? of_gates.flipped.get() + first * width : nullptr;
    hidden_gradient(p, d, weights, t, b0, rows, gates, inner, flipped, scratch.data());
    if (d.x == nullptr || !p.is_small()) continue;
    input_gradient(p, d, weights, t * p.B + b0, t * p.B + b1, gates, scratch.data());
  }
}

// Rows of the weights whose gradients are computed together.
struct Piece {
  size_t part;
  int64_t row, rows;
};

// The pieces of all rows; each lies within one gate if the inputs differ from gate to gate.
template <typename Real>
std::vector<Piece> pieces_of(const Layer<Real>& p, const std::vector<Part>& parts) {
  const int64_t gate_rows = p.input.by_gate() ? p.H : p.G * p.H;
  std::vector<Piece> pieces;
  for (size_t index = 0; index < parts.size(); ++index) {
    const int64_t end = (parts[index].gate + parts[index].count) * p.H;
    for (int64_t row = parts[index].gate * p.H; row < end; row += pieces.back().rows) {
      const int64_t gate_end = (row / gate_rows + 1) * gate_rows;
      pieces.push_back({index, row, std::min({kRowBlock, end - row, gate_end - row})});
    }
  }
  return pieces;
}

// Adds to `of_flip` [G*H, H], or begins it, what the rows' own parts of the mask on W_hh multiply.
template <typename Real>
void flip_gradients(const Layer<Real>& p, const std::vector<Part>& parts,
                    const GateGradients<Real>& of_gates, Times times, bool accumulate,
                    Real* of_flip) {
  const Operands<Real> states = states_of_parts(p, parts, p.flip_hidden, times);
  const std::vector<Piece> pieces = pieces_of(p, parts);
  const int64_t depth = times.count * p.B, width = p.G * p.H;
  for_each_slice(pieces.size(), 2 * depth * width * p.H, [&](int64_t begin, int64_t end) {
    std::vector<Real> unused(kRowBlock);
    for (int64_t index = begin; index < end; ++index) {
      const auto [part, row, rows] = pieces[index];
      multiply_transposed(rows, depth, of_gates.flipped.get() + row, width,
                          {{states[part].get(), of_flip + row * p.H, p.H}}, unused.data(),
                          accumulate);
    }
  });
}

// dW_ih = dg^T (x * mask) and dW_hh = dg^T (h_{t-1} * mask) over the times, plus what is there
// if asked; and the biases' gradients, which are sums of dg.
template <typename Real>
void weight_gradients(const Layer<Real>& p, const Gradients<Real>& d,
                      const BackwardWeights<Real>& weights, const GateGradients<Real>& of_gates,
                      Times times, bool accumulate) {
  const Operands<Real> states = states_of_parts(p, weights.hidden_parts, p.hidden, times);
  const Operands<Real> inputs = inputs_of_parts(p, weights.input_parts, times);
  const std::vector<Piece> pieces = pieces_of(p, weights.hidden_parts);
  const int64_t depth = times.count * p.B, width = p.G * p.H;
  for_each_slice(pieces.size(), 2 * depth * width * (p.H + p.I), [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const auto [part, row, rows] = pieces[index];
      const Target<Real> of_state{states[part].get(), d.weight_hh + row * p.H, p.H};
      const Target<Real> of_input{inputs[p.input.by_gate() ? row / p.H : 0].get(),
                                  d.weight_ih + row * p.I, p.I};
      const Real* from = of_gates.gates.get() + row;
      if (weights.hidden_parts[part].apart) {
        const Real* inner = of_gates.inner.get() + row - weights.hidden_parts[part].gate * p.H;
        multiply_transposed(rows, depth, inner, p.H, {of_state}, d.bias_hh + row,
                            accumulate);
        multiply_transposed(rows, depth, from, width, {of_input}, d.bias_ih + row,
                            accumulate);
      } else {
        multiply_transposed(rows, depth, from, width, {of_state, of_input}, d.bias_ih + row,
                            accumulate);
        std::copy_n(d.bias_ih + row, rows, d.bias_hh + row);
      }
    }
  });
}

// dx of all rows at these times.
template <typename Real>
void input_gradients(const Layer<Real>& p, const Gradients<Real>& d,
                     const BackwardWeights<Real>& weights, const GateGradients<Real>& of_gates,
                     Times times) {
  const int64_t rows = times.count * p.B, width = p.G * p.H;
  for_each_slice(rows, 2 * rows * width * p.I, [&](int64_t begin, int64_t end) {
    std::vector<Real> scratch(weights.input_parts.size() > 1 ? kRowBlock * p.I : 0);
    for (int64_t row = begin; row < end; row += kRowBlock) {
      const int64_t first = times.first * p.B;
      input_gradient(p, d, weights, first + row, first + std::min(end, row + kRowBlock),
                     of_gates.gates.get() + row * width, scratch.data());
    }
  });
}

// How many steps are worth a product of their own: the larger the weights, the more, since
// their gradients are read and written each time.
template <typename Real>
int64_t steps_together(const Layer<Real>& p) {
  const int64_t bytes = p.G * p.H * (p.H + p.I) * static_cast<int64_t>(sizeof(Real));
  const int64_t rows = bytes <= (1 << 19) ? 2 * kDepth : bytes <= (1 << 21) ? 4 * kDepth : p.T * p.B;
  return std::clamp<int64_t>(rows / p.B, 1, p.T);
}

// Fills the gradients; those of the biases are zero before.
template <typename Real, typename Step>
void backward_pass(const Layer<Real>& p, const Gradients<Real>& d) {
  const BackwardWeights<Real> weights(p, d.x != nullptr);
  const int64_t together = steps_together(p), width = p.G * p.H;
  const GateGradients<Real> of_gates(p, together);
  std::vector<Real> of_flip(p.flip_weight == nullptr ? 0 : width * p.H);
  for (int64_t done = 0; done < p.T; done += together) {
    const int64_t count = std::min(together, p.T - done);
    const Times times{p.reverse ? done : p.T - done - count, count};
    const int64_t operations = 2 * count * p.B * width * (p.H + p.I);
    for_each_slice(p.B, operations, [&](int64_t b0, int64_t b1) {
      backward_slice<Real, Step>(p, d, weights, of_gates, times, b0, b1);
    });
    weight_gradients(p, d, weights, of_gates, times, done > 0);
    if (p.flip_weight != nullptr) {
      flip_gradients(p, weights.hidden_parts, of_gates, times, done > 0, of_flip.data());
    }
    if (d.x != nullptr && !p.is_small()) input_gradients(p, d, weights, of_gates, times);
  }
  if (p.weight_mask != nullptr) times_row(d.weight_hh, p.weight_mask, width * p.H, d.weight_hh);
  add_times_row(of_flip.data(), p.flip_weight, of_flip.size(), d.weight_hh);
}

}  // namespace tidegate
