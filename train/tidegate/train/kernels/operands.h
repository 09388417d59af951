// The matrices of a layer, laid out for the products that they take part in.
#pragma once

#include "layer.h"
#include "parallel.h"

namespace tidegate {

// Packs every operand; pack(index, panel) packs one panel.
template <typename Real, typename Pack>
void pack_panels(Operands<Real>& operands, const Pack& pack) {
  int64_t panels = 0, elements = 0;
  for (const auto& one : operands) {
    panels += one->panels();
    elements += one->rows() * one->columns();
  }
  for_each_slice(panels, 4 * elements, [&](int64_t first, int64_t last) {
    int64_t at = 0;
    for (size_t index = 0; index < operands.size(); ++index) {
      for (int64_t panel = 0; panel < operands[index]->panels(); ++panel, ++at) {
        if (at >= first && at < last) pack(index, panel);
      }
    }
  });
}

// The same from rows; fill(index, row, first_column, count, to) writes a piece of one.
template <typename Real, typename Fill>
void pack_all(Operands<Real>& operands, const Fill& fill) {
  pack_panels(operands, [&](size_t index, int64_t panel) {
    operands[index]->pack(panel, [&](int64_t row, int64_t column, int64_t count, Real* to) {
      fill(index, row, column, count, to);
    });
  });
}

// W^T of each part, for rows of x or h; W [G*H, width].
template <typename Real>
Operands<Real> forward_weights(const Layer<Real>& p, const std::vector<Part>& parts,
                               const Real* weight, const Real* mask, int64_t width) {
  Operands<Real> operands;
  for (const Part& part : parts) {
    operands.push_back(std::make_unique<Packed<Real>>(width, part.count * p.H));
  }
  pack_panels(operands, [&](size_t index, int64_t panel) {
    operands[index]->pack_transposed(panel, [&](int64_t row, int64_t column) -> Columns<Real> {
      const int64_t from = (parts[index].gate * p.H + column) * width + row;
      return {weight + from, mask == nullptr ? nullptr : mask + from, width, width - row};
    });
  });
  return operands;
}

// [W_ih, W_hh]^T of all gates, for rows of x and h side by side.
template <typename Real>
Operands<Real> joint_weights(const Layer<Real>& p) {
  Operands<Real> operands;
  operands.push_back(std::make_unique<Packed<Real>>(p.I + p.H, p.G * p.H));
  pack_panels(operands, [&](size_t index, int64_t panel) {
    operands[index]->pack_transposed(panel, [&](int64_t row, int64_t column) -> Columns<Real> {
      if (row < p.I) return {p.weight_ih + column * p.I + row, nullptr, p.I, p.I - row};
      const int64_t from = column * p.H + row - p.I;
      const Real* mask = p.weight_mask == nullptr ? nullptr : p.weight_mask + from;
      return {p.weight_hh + from, mask, p.H, p.H + p.I - row};
    });
  });
  return operands;
}

// W of each part, for rows of gradients of the gates.
template <typename Real>
Operands<Real> backward_weights(const Layer<Real>& p, const std::vector<Part>& parts,
                                const Real* weight, const Real* mask, int64_t width) {
  Operands<Real> operands;
  for (const Part& part : parts) {
    operands.push_back(std::make_unique<Packed<Real>>(part.count * p.H, width));
  }
  pack_all<Real>(operands, [&](size_t index, int64_t row, int64_t column, int64_t count, Real* to) {
    const int64_t from = (parts[index].gate * p.H + row) * width + column;
    for (int64_t j = 0; j < count; ++j) to[j] = weight[from + j];
    if (mask != nullptr) times_row(to, mask + from, count, to);
  });
  return operands;
}

// Times first to first + count - 1.
struct Times {
  int64_t first, count;
};

// What each part's weights multiplied at these times, x * mask: [count * B, I].
template <typename Real>
Operands<Real> inputs_of_parts(const Layer<Real>& p, const std::vector<Part>& parts, Times times) {
  Operands<Real> operands;
  for (size_t i = 0; i < parts.size(); ++i) {
    operands.push_back(std::make_unique<Packed<Real>>(times.count * p.B, p.I));
  }
  pack_all<Real>(operands, [&](size_t index, int64_t row, int64_t column, int64_t count, Real* to) {
    const int64_t t = times.first + row / p.B, b = row % p.B;
    const Real* from = p.x + (t * p.B + b) * p.I + column;
    for (int64_t j = 0; j < count; ++j) to[j] = from[j];
    if (p.input.data == nullptr) return;
    times_row(to, p.input.row(t, parts[index].gate, b) + column, count, to);
  });
  return operands;
}

// Likewise h_{t-1} * mask, and r h_{t-1} * mask for the reset before: [count * B, H]; the mask is
// p.hidden or p.flip_hidden.
template <typename Real>
Operands<Real> states_of_parts(const Layer<Real>& p, const std::vector<Part>& parts,
                               const GateMask<Real>& mask, Times times) {
  Operands<Real> operands;
  for (size_t i = 0; i < parts.size(); ++i) {
    operands.push_back(std::make_unique<Packed<Real>>(times.count * p.B, p.H));
  }
  pack_all<Real>(operands, [&](size_t index, int64_t row, int64_t column, int64_t count, Real* to) {
    const int64_t t = times.first + row / p.B, b = row % p.B, gate = parts[index].gate;
    const Real* from = p.before(p.states, p.h0, t, b) + column;
    for (int64_t j = 0; j < count; ++j) to[j] = from[j];
    if (p.cell == Cell::gru_reset_before && gate == 2) {
      times_row(to, p.gates + (t * p.B + b) * p.G * p.H + column, count, to);
    }
    if (mask.data != nullptr) times_row(to, mask.row(0, gate, b) + column, count, to);
  });
  return operands;
}

}  // namespace tidegate
