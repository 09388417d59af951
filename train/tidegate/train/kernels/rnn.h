// Simple RNN: h~ = tanh(x + W_hh h), then zoneout.
#pragma once

#include "layer.h"

namespace tidegate {

struct Rnn {
  template <typename Real>
  static void forward(const Layer<Real>& p, const Real* bias_row, int64_t t, int64_t b, Real* h_row,
                      Real*) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ bias = bias_row;
    const Real* __restrict__ zone_h = p.zone_hidden.row(t, b);
    Real* __restrict__ a = p.gates + at * H;
    Real* __restrict__ h = h_row;
    Real* __restrict__ h_out = p.states + at * H;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      a[j] = hyperbolic_tangent(a[j] + bias[j]);
      h_out[j] = h[j] = zone_h[j] * h[j] + (1 - zone_h[j]) * a[j];
    }
  }

  template <typename Real>
  static void backward(const Layer<Real>& p, const Gradients<Real>& d, int64_t t, int64_t b,
                       Real* dg_row, Real*) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ a = p.gates + at * H;
    const Real* __restrict__ exposed = p.memory.row(t, b);
    const Real* __restrict__ zone_h = p.zone_hidden.row(t, b);
    const Real* __restrict__ dy = d.output + at * H;
    Real* __restrict__ dg = dg_row;
    Real* __restrict__ dh = d.h + b * H;
    const Real scale = p.memory_scale;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const Real dh_all = dh[j] + dy[j] * exposed[j] * scale;
      dg[j] = dh_all * (1 - zone_h[j]) * (1 - a[j] * a[j]);
      dh[j] = dh_all * zone_h[j];
    }
  }
};

}  // namespace tidegate
