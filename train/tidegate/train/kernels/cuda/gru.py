"""The passes of the GRU with the reset gate after the product."""

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
from tidegate.train.kernels.cuda.pointwise import gru as kernels


class Forward(ForwardPass):
    """Of the GRU with the reset gate after the product."""

    def __init__(self, inputs: Inputs, *, reverse: bool) -> None:
        super().__init__(inputs, reverse=reverse)
        self.inner = self.new_history()
        if inputs.exposed is not None:
            self.output = self.new_history()
        self.whole = self.product(0, 3)
        self.whole.begin(self.h, self.dtype)

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        self.launch(
            kernels.forward,
            t,
            gates=self.gates[t],
            inner=self.inner[t],
            product=self.whole.multiply(),
            bias=self.bias,
            h=self.h,
            states=self.states[t],
            output=self.output[t],
            candidate=self.at_step(one.candidate, t),
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            **self.whole.arguments(),
            **self.whole.operand_arguments(),
        )

    @override
    def saved(self) -> Saved:
        return Saved(self.gates, self.states, inner=self.inner)


class Backward(BackwardPass):
    """Of the GRU with the reset gate after the product."""

    def __init__(self, inputs: Inputs, saved: Saved, upstream: Upstream, *, reverse: bool) -> None:
        super().__init__(inputs, saved, upstream, reverse=reverse)
        self.inner = cast("Tensor", saved.inner)
        self.whole = self.product(0, 3)
        # Not the gates' own gradients: those of W_hn h + b_hn are times r.
        self.whole.begin_backward(self.whole.new_gradients(self.time, self.batch))

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        self.launch(
            kernels.backward,
            t,
            gates=self.saved.gates[t],
            inner=self.inner[t],
            previous_states=self.previous(self.saved.states, self.initial, t),
            initial_states=self.initial,
            d_output=self.d_output[t],
            dh=self.dh,
            d_gates=self.d_gates[t],
            d_product=self.whole.gradients[t],
            candidate=self.at_step(one.candidate, t),
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            REVERSE=self.reverse,
            **self.whole.arguments(),
            **self.whole.d_operand_arguments(),
        )
        self.whole.multiply_back(t)

    @override
    def gradients(self) -> Gradients:
        return self.collected([self.whole], [self.states_before()])
