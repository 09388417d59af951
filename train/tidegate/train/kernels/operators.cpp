// Torch operators: one recurrent layer in one direction, forward and backward,
// with every mask inside; and the draw of masks. cells.py, unroll.py
// and counter_rng.py remain the specification.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/library.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <tuple>

#include "backward.h"
#include "draw.h"

namespace tidegate {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

// What both operators take.
struct Arguments {
  const Tensor &x, &weight_ih, &weight_hh, &bias_ih, &bias_hh, &h0;
  const Optional &c0, &lengths, &input, &hidden, &weight, &candidate, &memory;
  double memory_scale;
  const Optional &zone_cell, &zone_hidden, &flip_weight, &flip_rows, &flip_hidden;
  int64_t cell;
  bool reverse;
};

// The pointers below are followed without further checks. Sizes below 0 are free: 1, or -size.
void check(const char* name, const Optional& tensor, at::ScalarType dtype,
           at::IntArrayRef sizes) {
  if (!tensor) return;
  bool fits = tensor->is_contiguous() && tensor->scalar_type() == dtype &&
              tensor->dim() == static_cast<int64_t>(sizes.size());
  int64_t axis = 0;
  for (const int64_t size : sizes) {
    if (!fits) break;
    const int64_t actual = tensor->size(axis++);
    fits = actual == std::abs(size) || (size < 0 && actual == 1);
  }
  TORCH_CHECK_VALUE(fits, name, " is ", tensor->scalar_type(), " ", tensor->sizes(), "; give ",
                    dtype, " ", sizes,
                    ", contiguous (a negative size stands for itself or 1)");
}

void check_unit_mask(const char* name, const Optional& mask, at::ScalarType dtype, int64_t T,
                     int64_t B, int64_t H) {
  if (mask && mask->dim() == 1) return check(name, mask, dtype, {H});
  if (mask && mask->dim() == 2) return check(name, mask, dtype, {B, H});
  check(name, mask, dtype, {-T, B, H});
}

void check_all(const Arguments& a) {
  TORCH_CHECK_VALUE(a.x.dim() == 3 && a.weight_hh.dim() == 2 && a.cell >= 0 && a.cell <= 3,
                    "x must be [time, batch, features], weight_hh [gates, hidden], cell 0 to 3");
  const auto dtype = a.x.scalar_type();
  const int64_t T = a.x.size(0), B = a.x.size(1), I = a.x.size(2), H = a.weight_hh.size(1);
  const int64_t G = std::array<int64_t, 4>{4, 3, 3, 1}[a.cell];
  const bool is_lstm = static_cast<Cell>(a.cell) == Cell::lstm;
  TORCH_CHECK_VALUE(T > 0 && B > 0 && H > 0, "x and weight_hh must not be empty");
  TORCH_CHECK_VALUE(a.c0.has_value() == is_lstm, "c0 belongs to an LSTM, and only to it");
  check("x", a.x, dtype, {T, B, I});
  check("weight_ih", a.weight_ih, dtype, {G * H, I});
  check("weight_hh", a.weight_hh, dtype, {G * H, H});
  check("bias_ih", a.bias_ih, dtype, {G * H});
  check("bias_hh", a.bias_hh, dtype, {G * H});
  check("h0", a.h0, dtype, {B, H});
  check("c0", a.c0, dtype, {B, H});
  check("lengths", a.lengths, at::kLong, {B});
  check("input_mask", a.input, dtype, {-T, -G, B, I});
  check("hidden_mask", a.hidden, dtype, {-G, B, H});
  check("weight_mask", a.weight, dtype, {G * H, H});
  check("flip_weight", a.flip_weight, dtype, {G * H, H});
  check("flip_rows", a.flip_rows, dtype, {B, G * H});
  check("flip_hidden", a.flip_hidden, dtype, {a.hidden ? a.hidden->size(0) : 1, B, H});
  TORCH_CHECK_VALUE(a.flip_weight.has_value() == a.flip_rows.has_value() &&
                        a.flip_weight.has_value() == a.flip_hidden.has_value(),
                    "flip_weight, flip_rows and flip_hidden belong together");
  check_unit_mask("candidate", a.candidate, dtype, T, B, H);
  check_unit_mask("memory", a.memory, dtype, T, B, H);
  check_unit_mask("zone_cell", a.zone_cell, dtype, T, B, H);
  check_unit_mask("zone_hidden", a.zone_hidden, dtype, T, B, H);
}

template <typename Real>
const Real* data_of(const Optional& tensor) {
  return tensor ? tensor->const_data_ptr<Real>() : nullptr;
}

// [H], [B, H], or [T or 1, B, H].
template <typename Real>
UnitMask<Real> unit_mask(const Optional& mask, const Tensor& absent, int64_t B, int64_t H) {
  if (!mask) return {absent.const_data_ptr<Real>(), 0, 0};
  if (mask->dim() == 1) return {mask->const_data_ptr<Real>(), 0, 0};
  const bool by_step = mask->dim() == 3 && mask->size(0) > 1;
  return {mask->const_data_ptr<Real>(), by_step ? B * H : 0, H};
}

// [T or 1, G or 1, B, width].
template <typename Real>
GateMask<Real> gate_mask(const Optional& mask) {
  if (!mask) return {};
  const int64_t B = mask->size(2), width = mask->size(3), gates = mask->size(1);
  return {mask->const_data_ptr<Real>(), mask->size(0) > 1 ? gates * B * width : 0,
          gates > 1 ? B * width : 0, width};
}

template <typename Real>
Layer<Real> layer_of(const Arguments& a, const Tensor& ones, const Tensor& zeros) {
  Layer<Real> p{};
  p.cell = static_cast<Cell>(a.cell);
  p.T = a.x.size(0), p.B = a.x.size(1), p.I = a.x.size(2), p.H = a.weight_hh.size(1);
  p.G = a.weight_hh.size(0) / p.H;
  p.reverse = a.reverse;
  p.x = a.x.const_data_ptr<Real>();
  p.weight_ih = a.weight_ih.const_data_ptr<Real>();
  p.weight_hh = a.weight_hh.const_data_ptr<Real>();
  p.weight_mask = data_of<Real>(a.weight);
  p.bias_ih = a.bias_ih.const_data_ptr<Real>();
  p.bias_hh = a.bias_hh.const_data_ptr<Real>();
  p.h0 = a.h0.const_data_ptr<Real>();
  p.c0 = data_of<Real>(a.c0);
  p.lengths = data_of<int64_t>(a.lengths);
  p.input = gate_mask<Real>(a.input);
  p.hidden = gate_mask<Real>(a.hidden ? Optional(a.hidden->unsqueeze(0)) : std::nullopt);
  p.flip_weight = data_of<Real>(a.flip_weight);
  p.flip_rows = data_of<Real>(a.flip_rows);
  p.flip_hidden =
      gate_mask<Real>(a.flip_hidden ? Optional(a.flip_hidden->unsqueeze(0)) : std::nullopt);
  p.candidate = unit_mask<Real>(a.candidate, ones, p.B, p.H);
  p.memory = unit_mask<Real>(a.memory, ones, p.B, p.H);
  p.memory_scale = static_cast<Real>(a.memory_scale);
  p.zone_cell = unit_mask<Real>(a.zone_cell, zeros, p.B, p.H);
  p.zone_hidden = unit_mask<Real>(a.zone_hidden, zeros, p.B, p.H);
  return p;
}

// Calls work with the cell's step.
template <typename Work>
void with_step(int64_t cell, const Work& work) {
  switch (static_cast<Cell>(cell)) {
    case Cell::lstm: return work(Lstm());
    case Cell::gru: return work(Gru<true>());
    case Cell::gru_reset_before: return work(Gru<false>());
    case Cell::rnn: return work(Rnn());
  }
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Forward forward(const Tensor& x, const Tensor& weight_ih, const Tensor& weight_hh,
                const Tensor& bias_ih, const Tensor& bias_hh, const Tensor& h0, const Optional& c0,
                const Optional& lengths, const Optional& input, const Optional& hidden,
                const Optional& weight, const Optional& candidate, const Optional& memory,
                double memory_scale, const Optional& zone_cell, const Optional& zone_hidden,
                const Optional& flip_weight, const Optional& flip_rows,
                const Optional& flip_hidden, int64_t cell, bool reverse) {
  const Arguments arguments{x,      weight_ih, weight_hh, bias_ih, bias_hh,   h0,
                            c0,     lengths,   input,     hidden,  weight,    candidate,
                            memory, memory_scale, zone_cell, zone_hidden, flip_weight, flip_rows,
                            flip_hidden, cell, reverse};
  check_all(arguments);
  const int64_t T = x.size(0), B = x.size(1), H = weight_hh.size(1), rows = weight_hh.size(0);
  const auto options = x.options();
  const Tensor ones = at::ones({H}, options), zeros = at::zeros({H}, options);
  const bool is_lstm = static_cast<Cell>(cell) == Cell::lstm;
  const bool is_apart = memory && !is_lstm, has_inner = static_cast<Cell>(cell) == Cell::gru;
  Tensor output = at::empty({T, B, H}, options), h_n = at::empty({B, H}, options);
  Tensor c_n = at::empty({is_lstm ? B : 0, H}, options);
  Tensor gates = at::empty({T, B, rows}, options);
  Tensor inner = at::empty({has_inner ? T : 0, B, H}, options);
  Tensor states = at::empty({is_apart ? T : 0, B, H}, options);
  Tensor cells = at::empty({is_lstm ? T : 0, B, H}, options);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "tidegate::recurrent_layer", [&] {
    Layer<scalar_t> p = layer_of<scalar_t>(arguments, ones, zeros);
    p.output = output.mutable_data_ptr<scalar_t>();
    p.states = is_apart ? states.mutable_data_ptr<scalar_t>() : p.output;
    p.gates = gates.mutable_data_ptr<scalar_t>();
    p.inner = inner.mutable_data_ptr<scalar_t>();
    p.cells = cells.mutable_data_ptr<scalar_t>();
    with_step(cell, [&](auto step) {
      forward_pass<scalar_t, decltype(step)>(
          p, h_n.mutable_data_ptr<scalar_t>(),
          is_lstm ? c_n.mutable_data_ptr<scalar_t>() : nullptr);
    });
  });
  return {output, h_n, c_n, gates, inner, states, cells};
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Backward backward(const Tensor& d_output, const Optional& d_h_n, const Optional& d_c_n,
                  bool needs_dx, const Tensor& output, const Tensor& gates, const Tensor& inner,
                  const Tensor& states, const Tensor& cells, const Tensor& x,
                  const Tensor& weight_ih, const Tensor& weight_hh, const Tensor& bias_ih,
                  const Tensor& bias_hh, const Tensor& h0, const Optional& c0,
                  const Optional& lengths, const Optional& input, const Optional& hidden,
                  const Optional& weight, const Optional& candidate, const Optional& memory,
                  double memory_scale, const Optional& zone_cell, const Optional& zone_hidden,
                  const Optional& flip_weight, const Optional& flip_rows,
                  const Optional& flip_hidden, int64_t cell, bool reverse) {
  const Arguments arguments{x,      weight_ih, weight_hh, bias_ih, bias_hh,   h0,
                            c0,     lengths,   input,     hidden,  weight,    candidate,
                            memory, memory_scale, zone_cell, zone_hidden, flip_weight, flip_rows,
                            flip_hidden, cell, reverse};
  check_all(arguments);
  check("d_output", d_output, x.scalar_type(), output.sizes());
  const auto options = x.options();
  const Tensor ones = at::ones({h0.size(1)}, options), zeros = at::zeros({h0.size(1)}, options);
  Tensor d_weight_ih = at::empty_like(weight_ih), d_weight_hh = at::empty_like(weight_hh);
  Tensor d_bias_ih = at::zeros_like(bias_ih), d_bias_hh = at::zeros_like(bias_hh);
  Tensor d_x = needs_dx ? at::empty_like(x) : at::empty({0}, options);
  Tensor d_h = d_h_n ? d_h_n->clone(at::MemoryFormat::Contiguous) : at::zeros_like(h0);
  Tensor d_c = !c0 ? at::empty({0}, options) : d_c_n ? d_c_n->clone(at::MemoryFormat::Contiguous) : at::zeros_like(*c0);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "tidegate::recurrent_layer_backward", [&] {
    Layer<scalar_t> p = layer_of<scalar_t>(arguments, ones, zeros);
    // Read only from here on.
    auto saved = [](const Tensor& tensor) {
      return const_cast<scalar_t*>(tensor.const_data_ptr<scalar_t>());
    };
    p.output = saved(output);
    p.states = states.numel() > 0 ? saved(states) : p.output;
    p.gates = saved(gates), p.inner = saved(inner), p.cells = saved(cells);
    auto fresh = [](Tensor& tensor) { return tensor.mutable_data_ptr<scalar_t>(); };
    const Gradients<scalar_t> d{d_output.const_data_ptr<scalar_t>(),
                                needs_dx ? fresh(d_x) : nullptr,
                                fresh(d_weight_ih), fresh(d_weight_hh),
                                fresh(d_bias_ih), fresh(d_bias_hh), fresh(d_h), fresh(d_c)};
    with_step(cell, [&](auto step) { backward_pass<scalar_t, decltype(step)>(p, d); });
  });
  return {d_x, d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh, d_h, d_c};
}

Tensor draw_factors(const Tensor& samples, int64_t key, int64_t threshold, int64_t times,
                    int64_t units, double dropped, double kept, at::ScalarType dtype) {
  TORCH_CHECK_VALUE(times >= 0 && units >= 0 && samples.dim() == 1, "samples must be [B]");
  check("samples", samples, at::kLong, samples.sizes());
  const int64_t count = samples.size(0);
  Tensor factors = at::empty({times, count, units}, samples.options().dtype(dtype));
  AT_DISPATCH_FLOATING_TYPES(dtype, "tidegate::draw", [&] {
    draw(static_cast<uint64_t>(key), static_cast<uint64_t>(threshold), times, count,
         samples.const_data_ptr<int64_t>(), units, static_cast<scalar_t>(dropped),
         static_cast<scalar_t>(kept), factors.mutable_data_ptr<scalar_t>());
  });
  return factors;
}

}  // namespace
}  // namespace tidegate

#define TIDEGATE_ARGUMENTS                                                                       \
  "Tensor x, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh, Tensor h0, "   \
  "Tensor? c0, Tensor? lengths, Tensor? input_mask, Tensor? hidden_mask, Tensor? weight_mask, " \
  "Tensor? candidate, Tensor? memory, float memory_scale, Tensor? zone_cell, "                  \
  "Tensor? zone_hidden, Tensor? flip_weight, Tensor? flip_rows, Tensor? flip_hidden, "          \
  "int cell, bool reverse"

TORCH_LIBRARY(tidegate, m) {
  m.def("recurrent_layer(" TIDEGATE_ARGUMENTS
        ") -> (Tensor output, Tensor h_n, Tensor c_n, Tensor gates, Tensor inner, Tensor states, "
        "Tensor cells)");
  m.def(
      "recurrent_layer_backward(Tensor d_output, Tensor? d_h_n, Tensor? d_c_n, bool needs_dx, "
      "Tensor output, Tensor gates, Tensor inner, Tensor states, Tensor cells, " TIDEGATE_ARGUMENTS
      ") -> (Tensor d_x, Tensor d_weight_ih, Tensor d_weight_hh, Tensor d_bias_ih, "
      "Tensor d_bias_hh, Tensor d_h0, Tensor d_c0)");
  m.def(
      "draw(Tensor samples, int key, int threshold, int times, int units, float dropped, "
      "float kept, ScalarType dtype) -> Tensor");
}

TORCH_LIBRARY_IMPL(tidegate, CPU, m) {
  m.impl("recurrent_layer", tidegate::forward);
  m.impl("recurrent_layer_backward", tidegate::backward);
  m.impl("draw", tidegate::draw_factors);
}
