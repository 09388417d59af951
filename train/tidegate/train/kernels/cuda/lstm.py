"""The passes of the LSTM."""

from typing import cast

from torch import Tensor
from typing_extensions import override

from tidegate.train.kernels.cuda.layer import (
    BackwardPass,
    ForwardPass,
    Gradients,
    Inputs,
    Saved,
    Upstream,
)
from tidegate.train.kernels.cuda.pointwise import lstm as kernels


class Forward(ForwardPass):
    """Of the LSTM."""

    def __init__(self, inputs: Inputs, *, reverse: bool) -> None:
        super().__init__(inputs, reverse=reverse)
        self.c = cast("Tensor", inputs.c0).to(self.carried, copy=True)
        self.cells = self.new_history().to(self.carried)
        self.whole = self.product(0, 4)
        self.whole.begin(self.h, self.dtype)

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        self.launch(
            kernels.forward,
            t,
            gates=self.gates[t],
            product=self.whole.multiply(),
            bias=self.bias,
            h=self.h,
            c=self.c,
            states=self.states[t],
            cells=self.cells[t],
            candidate=self.at_step(one.candidate, t),
            memory=one.memory,
            exposed=one.exposed,
            zone_cell=self.at_step(one.zone_cell, t),
            zone_hidden=self.at_step(one.zone_hidden, t),
            **self.whole.arguments(),
            **self.whole.operand_arguments(),
        )

    @override
    def saved(self) -> Saved:
        return Saved(self.gates, self.states, cells=self.cells)


class Backward(BackwardPass):
    """Of the LSTM."""

    def __init__(self, inputs: Inputs, saved: Saved, upstream: Upstream, *, reverse: bool) -> None:
        super().__init__(inputs, saved, upstream, reverse=reverse)
        self.c0 = cast("Tensor", inputs.c0).to(self.carried)
        self.cells = cast("Tensor", saved.cells)
        self.whole = self.product(0, 4)
        self.is_apart = self.begin_on_gates(self.whole)

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        self.launch(
            kernels.backward,
            t,
            gates=self.saved.gates[t],
            previous_cells=self.previous(self.cells, self.c0, t),
            initial_cells=self.c0,
            d_output=self.d_output[t],
            dh=self.dh,
            dc=self.dc,
            d_gates=self.d_gates[t],
            d_product=self.whole.gradients[t] if self.is_apart else None,
            candidate=self.at_step(one.candidate, t),
            memory=one.memory,
            exposed=one.exposed,
            zone_cell=self.at_step(one.zone_cell, t),
            zone_hidden=self.at_step(one.zone_hidden, t),
            REVERSE=self.reverse,
            **self.whole.arguments(),
            **self.whole.d_operand_arguments(),
        )
        self.whole.multiply_back(t)

    @override
    def gradients(self) -> Gradients:
        return self.collected([self.whole], [self.states_before()])
