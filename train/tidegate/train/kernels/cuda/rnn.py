"""The passes of the simple RNN."""

from typing_extensions import override

from tidegate.train.kernels.cuda.layer import (
    BackwardPass,
    ForwardPass,
    Gradients,
    Inputs,
    Saved,
    Upstream,
)
from tidegate.train.kernels.cuda.pointwise import rnn as kernels


class Forward(ForwardPass):
    """Of the simple RNN."""

    def __init__(self, inputs: Inputs, *, reverse: bool) -> None:
        super().__init__(inputs, reverse=reverse)
        if inputs.exposed is not None:
            self.output = self.new_history()
        self.whole = self.product(0, 1)
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
            states=self.states[t],
            output=self.output[t],
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            **self.whole.arguments(),
            **self.whole.operand_arguments(),
        )

    @override
    def saved(self) -> Saved:
        return Saved(self.gates, self.states)


class Backward(BackwardPass):
    """Of the simple RNN."""

    def __init__(self, inputs: Inputs, saved: Saved, upstream: Upstream, *, reverse: bool) -> None:
        super().__init__(inputs, saved, upstream, reverse=reverse)
        self.whole = self.product(0, 1)
        self.is_apart = self.begin_on_gates(self.whole)

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        self.launch(
            kernels.backward,
            t,
            gates=self.saved.gates[t],
            d_output=self.d_output[t],
            dh=self.dh,
            d_gates=self.d_gates[t],
            d_product=self.whole.gradients[t] if self.is_apart else None,
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            **self.whole.arguments(),
            **self.whole.d_operand_arguments(),
        )
        self.whole.multiply_back(t)

    @override
    def gradients(self) -> Gradients:
        return self.collected([self.whole], [self.states_before()])
