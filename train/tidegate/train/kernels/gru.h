// GRU: h~ = (1 - z) n cand + z h, then zoneout.
// Reset after: n = tanh(x + r (W_hn h + b_hn)). Reset before: n = tanh(x + W_hn (r h) + b_hn).
#pragma once

#include "layer.h"

namespace tidegate {

template <bool kResetAfter>
struct Gru {
  template <typename Real>
  static void forward(const Layer<Real>& p, const Real* bias_row, int64_t t, int64_t b, Real* h_row,
                      Real*) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ bias = bias_row;
    const Real* __restrict__ bias_n = p.bias_hh + 2 * H;
    const Real* __restrict__ candidate = p.candidate.row(t, b);
    const Real* __restrict__ zone_h = p.zone_hidden.row(t, b);
    Real* __restrict__ a = p.gates + at * 3 * H;
    Real* __restrict__ inner = p.inner + (kResetAfter ? at * H : 0);
    Real* __restrict__ h = h_row;
    Real* __restrict__ h_out = p.states + at * H;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      Real n = a[2 * H + j] + bias[2 * H + j];
      if (kResetAfter) {
        a[j] = sigmoid(a[j] + bias[j]);
        inner[j] += bias_n[j];
        n += a[j] * inner[j];
      }
      n = hyperbolic_tangent(n);
      const Real z = sigmoid(a[H + j] + bias[H + j]);
      a[H + j] = z, a[2 * H + j] = n;
      const Real h_new = (1 - z) * (n * candidate[j]) + z * h[j];
      h_out[j] = h[j] = zone_h[j] * h[j] + (1 - zone_h[j]) * h_new;
    }
  }

  // Reset before: r, and r h, which W_hn then multiplies.
  template <typename Real>
  static void reset(const Layer<Real>& p, const Real* bias_row, int64_t t, int64_t b,
                    const Real* h_row, Real* to) {
    const int64_t H = p.H;
    const Real* __restrict__ bias = bias_row;
    const Real* __restrict__ h = h_row;
    Real* __restrict__ r = p.gates + (t * p.B + b) * 3 * H;
    Real* __restrict__ product = to;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      r[j] = sigmoid(r[j] + bias[j]);
      product[j] = r[j] * h[j];
    }
  }

  template <typename Real>
  static void backward(const Layer<Real>& p, const Gradients<Real>& d, int64_t t, int64_t b,
                       Real* dg_row, Real* d_inner_row) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ a = p.gates + at * 3 * H;
    const Real* __restrict__ inner = p.inner + (kResetAfter ? at * H : 0);
    const Real* __restrict__ h = p.before(p.states, p.h0, t, b);
    const Real* __restrict__ candidate = p.candidate.row(t, b);
    const Real* __restrict__ exposed = p.memory.row(t, b);
    const Real* __restrict__ zone_h = p.zone_hidden.row(t, b);
    const Real* __restrict__ dy = d.output + at * H;
    Real* __restrict__ dg = dg_row;
    Real* __restrict__ d_inner = d_inner_row;
    Real* __restrict__ dh = d.h + b * H;
    const Real scale = p.memory_scale;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      const Real r = a[j], z = a[H + j], n = a[2 * H + j];
      const Real dh_all = dh[j] + dy[j] * exposed[j] * scale;
      const Real dh_new = dh_all * (1 - zone_h[j]);
      const Real dn = dh_new * (1 - z) * candidate[j] * (1 - n * n);
      dg[H + j] = dh_new * (h[j] - n * candidate[j]) * z * (1 - z);
      dg[2 * H + j] = dn;
      if (kResetAfter) {
        dg[j] = dn * inner[j] * r * (1 - r);
        d_inner[j] = dn * r;
      }
      dh[j] = dh_all * zone_h[j] + dh_new * z;
    }
  }

  // Reset before: the gradient of r h gives that of r, and a share of that of h.
  template <typename Real>
  static void reset_backward(const Layer<Real>& p, const Gradients<Real>& d, int64_t t, int64_t b,
                             Real* dg_row, const Real* d_product) {
    const int64_t H = p.H, at = t * p.B + b;
    const Real* __restrict__ from = d_product;
    const Real* __restrict__ r = p.gates + at * 3 * H;
    const Real* __restrict__ h = p.before(p.states, p.h0, t, b);
    Real* __restrict__ dg = dg_row;
    Real* __restrict__ dh = d.h + b * H;
#pragma omp simd
    for (int64_t j = 0; j < H; ++j) {
      dg[j] = from[j] * h[j] * r[j] * (1 - r[j]);
      dh[j] += from[j] * r[j];
    }
  }
};

}  // namespace tidegate
