"""The passes of the GRU with the reset gate before the product: two products a step."""

from typing_extensions import override

from tidegate.train.kernels.cuda.layer import (
    BackwardPass,
    ForwardPass,
    Gradients,
    Inputs,
    Saved,
    Upstream,
)
from tidegate.train.kernels.cuda.pointwise import gru_reset_before as kernels


class Forward(ForwardPass):
    """Of the GRU with the reset gate before the product."""

    def __init__(self, inputs: Inputs, *, reverse: bool) -> None:
        super().__init__(inputs, reverse=reverse)
        if inputs.exposed is not None:
            self.output = self.new_history()
        self.rz, self.n = self.product(0, 2), self.product(2, 1)
        self.rz.begin(self.h, self.dtype)
        self.n.begin(self.h, self.dtype)

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        of_rz = self.rz.multiply()
        self.launch(
            kernels.reset,
            t,
            gates=self.gates[t],
            product=of_rz,
            bias=self.bias,
            h=self.h,
            **self.rz.arguments(),
            **self.n.operand_arguments(),
        )
        self.launch(
            kernels.forward,
            t,
            gates=self.gates[t],
            product=of_rz,
            reset_product=self.n.multiply(),
            reset_rows=self.n.rows,
            bias=self.bias,
            reset_bias=self.bias[2 * self.size :],
            h=self.h,
            states=self.states[t],
            output=self.output[t],
            candidate=self.at_step(one.candidate, t),
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            **self.rz.arguments(),
            **self.rz.operand_arguments(),
        )

    @override
    def saved(self) -> Saved:
        return Saved(self.gates, self.states)


class Backward(BackwardPass):
    """Of the GRU with the reset gate before the product."""

    def __init__(self, inputs: Inputs, saved: Saved, upstream: Upstream, *, reverse: bool) -> None:
        super().__init__(inputs, saved, upstream, reverse=reverse)
        self.rz, self.n = self.product(0, 2), self.product(2, 1)
        self.rz.begin_backward(self.rz.new_gradients(self.time, self.batch))
        self.n.begin_backward(self.n.new_gradients(self.time, self.batch))

    @override
    def step(self, t: int) -> None:
        one = self.inputs
        before = {
            "previous_states": self.previous(self.saved.states, self.initial, t),
            "initial_states": self.initial,
            "REVERSE": self.reverse,
        }
        self.launch(
            kernels.backward,
            t,
            gates=self.saved.gates[t],
            d_output=self.d_output[t],
            dh=self.dh,
            d_gates=self.d_gates[t],
            d_product=self.rz.gradients[t],
            d_reset_product=self.n.gradients[t],
            reset_rows=self.n.rows,
            candidate=self.at_step(one.candidate, t),
            exposed=one.exposed,
            zone_hidden=self.at_step(one.zone_hidden, t),
            **before,
            **self.rz.arguments(),
            **self.rz.d_operand_arguments(),
        )
        self.n.multiply_back(t)
        self.launch(
            kernels.reset_backward,
            t,
            gates=self.saved.gates[t],
            dh=self.dh,
            d_gates=self.d_gates[t],
            d_product=self.rz.gradients[t],
            **before,
            **self.rz.arguments(),
            **self.n.d_operand_arguments(),
        )
        self.rz.multiply_back(t)

    @override
    def gradients(self) -> Gradients:
        states = self.states_before()
        reset = self.saved.gates[..., : self.size]
        return self.collected([self.rz, self.n], [states, reset * states])
