// The forward pass. A thread works on a slice of the batch for the whole
// sequence: there is no barrier between steps, and what a step needs is in the
// cache since the step before.
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

// The rows b0 to b0 + rows of `from` [B, size], times a mask if there is one.
template <typename Real>
const Real* masked_rows(const GateMask<Real>& mask, int64_t t, int64_t gate, int64_t b0,
                        int64_t rows, const Real* from, int64_t size, Real* to) {
  if (mask.data == nullptr) return from;
  times_row(from, mask.row(t, gate, b0), rows * size, to);
  return to;
}

template <typename Real>
struct ForwardWeights {
  explicit ForwardWeights(const Layer<Real>& p)
      : input_parts(p.input_parts()), hidden_parts(p.hidden_parts()), bias(outer_bias(p)) {
    if (p.flip_weight != nullptr) {
      flipped = forward_weights<Real>(p, hidden_parts, p.weight_hh, p.flip_weight, p.H);
    }
    if (p.is_small() && input_parts.size() == 1 && hidden_parts.size() == 1) {
      joint = joint_weights(p);
      return;
    }
    input = forward_weights<Real>(p, input_parts, p.weight_ih, nullptr, p.I);
    hidden = forward_weights<Real>(p, hidden_parts, p.weight_hh, p.weight_mask, p.H);
  }

  std::vector<Part> input_parts, hidden_parts;
  std::vector<Real> bias;
  // One product for all gates where each reads the same x and h, else one for each part.
  Operands<Real> joint, input, hidden;
  Operands<Real> flipped;  // for each part of h; none without a flip
};

// Adds each row's own part of the masked W_hh, rows * W (h * columns), for `count` rows of h;
// scratch of [count, H + G*H].
template <typename Real>
void add_flipped(const Layer<Real>& p, const ForwardWeights<Real>& weights, size_t index,
                 int64_t b0, int64_t count, const Real* h, Real* scratch, Real* to,
                 int64_t stride) {
  if (weights.flipped.empty()) return;
  const Part& part = weights.hidden_parts[index];
  const int64_t width = part.count * p.H;
  Real* product = scratch + count * p.H;
  const Real* from = masked_rows(p.flip_hidden, 0, part.gate, b0, count, h, p.H, scratch);
  multiply(count, from, p.H, *weights.flipped[index], product, width, false);
  for (int64_t i = 0; i < count; ++i) {
    add_times_row(product + i * width, p.flip_row(b0 + i, part.gate), width, to + i * stride);
  }
}

// Products of rows begin to end of x, [T*B, I].
template <typename Real>
void input_products(const Layer<Real>& p, const ForwardWeights<Real>& weights, int64_t begin,
                    int64_t end, Real* scratch) {
  const int64_t width = p.G * p.H, rows = end - begin;
  for (size_t index = 0; index < weights.input_parts.size(); ++index) {
    const int64_t gate = weights.input_parts[index].gate;
    const Real* x = p.x + begin * p.I;
    if (p.input.data != nullptr) {
      for (int64_t i = 0; i < rows; ++i) {
        const Real* mask = p.input.row((begin + i) / p.B, gate, (begin + i) % p.B);
        times_row(x + i * p.I, mask, p.I, scratch + i * p.I);
      }
      x = scratch;
    }
    Real* to = p.gates + begin * width + gate * p.H;
    multiply(rows, x, p.I, *weights.input[index], to, width, false);
  }
}

// One step's products with x and h as one, for rows of h at `h` and scratch of [rows, I + H].
template <typename Real>
void joint_product(const Layer<Real>& p, const ForwardWeights<Real>& weights, int64_t t, int64_t b0,
                   int64_t rows, const Real* h, Real* scratch) {
  const int64_t first = t * p.B + b0, width = p.I + p.H;
  for (int64_t i = 0; i < rows; ++i) {
    const Real* x = p.x + (first + i) * p.I;
    Real* to = scratch + i * width;
    const bool drops_x = p.input.data != nullptr, drops_h = p.hidden.data != nullptr;
    if (drops_x) times_row(x, p.input.row(t, 0, b0 + i), p.I, to);
    if (!drops_x) std::copy_n(x, p.I, to);
    if (drops_h) times_row(h + i * p.H, p.hidden.row(0, 0, b0 + i), p.H, to + p.I);
    if (!drops_h) std::copy_n(h + i * p.H, p.H, to + p.I);
  }
  multiply(rows, scratch, width, *weights.joint[0], p.gates + first * p.G * p.H, p.G * p.H, false);
}

// The same part by part; of x, unless all steps' are there.
template <typename Real>
void step_products(const Layer<Real>& p, const ForwardWeights<Real>& weights, int64_t t, int64_t b0,
                   int64_t rows, const Real* h, Real* scratch, Real* reset) {
  const int64_t H = p.H, first = t * p.B + b0, width = p.G * H;
  if (!weights.joint.empty()) {
    joint_product(p, weights, t, b0, rows, h, scratch);
    return add_flipped(p, weights, 0, b0, rows, h, scratch, p.gates + first * width, width);
  }
  if (p.is_small()) input_products(p, weights, first, first + rows, scratch);
  for (size_t index = 0; index < weights.hidden_parts.size(); ++index) {
    const Part& part = weights.hidden_parts[index];
    const Real* from = h;
    if (p.cell == Cell::gru_reset_before && part.gate == 2) {
      for (int64_t i = 0; i < rows; ++i) {
        Gru<false>::reset(p, weights.bias.data(), t, b0 + i, h + i * H, reset + i * H);
      }
      from = reset;
    }
    const Real* masked = masked_rows(p.hidden, 0, part.gate, b0, rows, from, H, scratch);
    Real* to = part.apart ? p.inner + first * H : p.gates + first * width + part.gate * H;
    const int64_t stride = part.apart ? H : width;
    multiply(rows, masked, H, *weights.hidden[index], to, stride, !part.apart);
    add_flipped(p, weights, index, b0, rows, from, scratch, to, stride);
  }
}

template <typename Real, typename Step>
void forward_slice(const Layer<Real>& p, const ForwardWeights<Real>& weights, int64_t b0,
                   int64_t b1, Real* h_n, Real* c_n) {
  const int64_t H = p.H, rows = b1 - b0;
  // Carried on in place in the last state.
  Real* h = h_n + b0 * H;
  Real* c = c_n == nullptr ? nullptr : c_n + b0 * H;
  std::copy(p.h0 + b0 * H, p.h0 + b1 * H, h);
  if (c != nullptr) std::copy(p.c0 + b0 * H, p.c0 + b1 * H, c);
  const int64_t product = p.flip_weight == nullptr ? 0 : p.G * H;
  std::vector<Real> scratch(rows * (H + std::max(p.I, product))), reset(rows * H);
  for (int64_t step = 0; step < p.T; ++step) {
    const int64_t t = p.time(step), first = t * p.B + b0;
    step_products(p, weights, t, b0, rows, h, scratch.data(), reset.data());
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t b = b0 + i, at = (first + i) * H;
      if (!p.real(t, b)) {
        std::fill_n(p.states + at, H, Real(0));
        if (p.output != p.states) std::fill_n(p.output + at, H, Real(0));
        if (c != nullptr) std::fill_n(p.cells + at, H, Real(0));
        continue;
      }
      Step::forward(p, weights.bias.data(), t, b, h + i * H, c == nullptr ? nullptr : c + i * H);
      if (p.output == p.states) continue;
      const Real* exposed = p.memory.row(t, b);
      for (int64_t j = 0; j < H; ++j) {
        p.output[at + j] = p.states[at + j] * exposed[j] * p.memory_scale;
      }
    }
  }
}

// Fills gates, inner, states, output and cells; and the last state, c_n for the LSTM only.
template <typename Real, typename Step>
void forward_pass(const Layer<Real>& p, Real* h_n, Real* c_n) {
  const ForwardWeights<Real> weights(p);
  const int64_t operations = 2 * p.T * p.B * p.G * p.H * (p.H + p.I);
  if (!p.is_small()) {
    for_each_slice(p.T * p.B, operations, [&](int64_t begin, int64_t end) {
      std::vector<Real> scratch(p.input.data == nullptr ? 0 : kRowBlock * p.I);
      for (int64_t row = begin; row < end; row += kRowBlock) {
        input_products(p, weights, row, std::min(end, row + kRowBlock), scratch.data());
      }
    });
  }
  for_each_slice(p.B, operations, [&](int64_t b0, int64_t b1) {
    forward_slice<Real, Step>(p, weights, b0, b1, h_n, c_n);
  });
}

}  // namespace tidegate
