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
            operands=self.whole.operands,
            factors=self.whole.factors,
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            PRODUCTS=self.whole.products,
            **self.whole.arguments(),
        )

    @override
    def saved(self) -> Saved:
        return Saved(self.gates, self.states)


class Backward(BackwardPass):
    """Of the simple RNN."""

    def __init__(self, inputs: Inputs, saved: Saved, upstream: Upstream, *, reverse: bool) -> None:
        super().__init__(inputs, saved, upstream, reverse=reverse)
        self.whole = self.product(0, 1)
        # One product reads the gates' gradients as they are.
        self.is_one = self.whole.products == 1
        self.whole.begin_backward(
            self.d_gates[:, None]
            if self.is_one
            else self.whole.new_gradients(self.time, self.batch)
        )

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        self.launch(
            kernels.backward,
            t,
            gates=self.saved.gates[t],
            d_output=self.d_output[t],
            dh=self.dh,
            d_operands=self.whole.d_operands,
            d_gates=self.d_gates[t],
            d_product=None if self.is_one else self.whole.gradients[t],
            factors=self.whole.factors,
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            PRODUCTS=self.whole.products,
            **self.whole.arguments(),
        )
        self.whole.multiply_back(t)

    @override
    def gradients(self) -> Gradients:
        return self.collected([self.whole], [self.states_before()])
