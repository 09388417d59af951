// LSTM: c~ = m (f c + i g cand), h~ = o tanh(c~) scale, then zoneout on both.
#pragma once

#include "layer.h"

namespace tidegate {

struct Lstm {
  // One row of a step; h and c are carried on in place.
  template <typename Real>
  static void forward(const Layer<Real>& p, const Real* bias_row, int64_t t, int64_t b, Real* h_row,
                      Real* c_row) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ bias = bias_row;
    const Real* __restrict__ candidate = p.candidate.row(t, b);
    const Real* __restrict__ memory = p.memory.row(t, b);
    const Real* __restrict__ zone_c = p.zone_cell.row(t, b);
    const Real* __restrict__ zone_h = p.zone_hidden.row(t, b);
    Real* __restrict__ a = p.gates + at * 4 * H;
    Real* __restrict__ h = h_row;
    Real* __restrict__ c = c_row;
    Real* __restrict__ h_out = p.states + at * H;
    Real* __restrict__ c_out = p.cells + at * H;
    const Real scale = p.memory_scale;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const Real i = sigmoid(a[j] + bias[j]);
      const Real f = sigmoid(a[H + j] + bias[H + j]);
      const Real g = hyperbolic_tangent(a[2 * H + j] + bias[2 * H + j]);
      const Real o = sigmoid(a[3 * H + j] + bias[3 * H + j]);
      a[j] = i, a[H + j] = f, a[2 * H + j] = g, a[3 * H + j] = o;
      const Real c_new = memory[j] * (f * c[j] + i * (g * candidate[j]));
      const Real h_new = o * hyperbolic_tangent(c_new) * scale;
      c_out[j] = c[j] = zone_c[j] * c[j] + (1 - zone_c[j]) * c_new;
      h_out[j] = h[j] = zone_h[j] * h[j] + (1 - zone_h[j]) * h_new;
    }
  }

  // From the gradients after a step to those of its gates and of what is carried past them.
  template <typename Real>
  static void backward(const Layer<Real>& p, const Gradients<Real>& d, int64_t t, int64_t b,
                       Real* dg_row, Real*) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ a = p.gates + at * 4 * H;
    const Real* __restrict__ c = p.before(p.cells, p.c0, t, b);
    const Real* __restrict__ candidate = p.candidate.row(t, b);
    const Real* __restrict__ memory = p.memory.row(t, b);
    const Real* __restrict__ zone_c = p.zone_cell.row(t, b);
    const Real* __restrict__ zone_h = p.zone_hidden.row(t, b);
    const Real* __restrict__ dy = d.output + at * H;
    Real* __restrict__ dg = dg_row;
    Real* __restrict__ dh = d.h + b * H;
    Real* __restrict__ dc = d.c + b * H;
    const Real scale = p.memory_scale;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const Real i = a[j], f = a[H + j], g = a[2 * H + j], o = a[3 * H + j];
      // Cheaper than to keep it for all steps.
      const Real tc = hyperbolic_tangent(memory[j] * (f * c[j] + i * (g * candidate[j])));
      const Real dh_all = dh[j] + dy[j];
      const Real dh_new = dh_all * (1 - zone_h[j]) * scale;
      const Real dc_new = (dh_new * o * (1 - tc * tc) + dc[j] * (1 - zone_c[j])) * memory[j];
      dg[j] = dc_new * (g * candidate[j]) * i * (1 - i);
      dg[H + j] = dc_new * c[j] * f * (1 - f);
      dg[2 * H + j] = dc_new * i * candidate[j] * (1 - g * g);
      dg[3 * H + j] = dh_new * tc * o * (1 - o);
      dc[j] = dc[j] * zone_c[j] + dc_new * f;
      dh[j] = dh_all * zone_h[j];
    }
  }
};

}  // namespace tidegate
