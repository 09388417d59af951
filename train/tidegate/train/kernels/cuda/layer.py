"""What the passes of all cells share: buffers, the order of time, and the launch of kernels.

Dimensions: T time, B batch, H hidden, G gates. Buffers have the dtype of the
gates; what is carried from step to step has at least float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tidegate.train.kernels.cuda.products import Product

# Elements of one program; two a thread.
BLOCK = 256


class Inputs(NamedTuple):
    """What both passes read; all contiguous, masks as factors.

    Attributes:
        gates: W_ih x + b_ih, [T, B, G*H]; after a forward pass, the gates.
        weights: [P, G*H, H], P being 2 with ``rows``, else 1.
        bias: b_hh, [G*H].
        h0: [B, H].
        c0: the same; LSTM only.
        lengths: int64 [B]; None: all rows have T steps.
        factors: on h where the products read it, [P or P*G, B, H].
        rows: on the second product, [B, G*H].
        candidate: [T or 1, B, H].
        memory: [B, H], on c; LSTM only.
        exposed: [B, H], on what leaves the layer.
        zone_cell: [T or 1, B, H], the share of the old c.
        zone_hidden: the same for h.
    """

    gates: Tensor
    weights: Tensor
    bias: Tensor
    h0: Tensor
    c0: Tensor | None = None
    lengths: Tensor | None = None
    factors: Tensor | None = None
    rows: Tensor | None = None
    candidate: Tensor | None = None
    memory: Tensor | None = None
    exposed: Tensor | None = None
    zone_cell: Tensor | None = None
    zone_hidden: Tensor | None = None


class Saved(NamedTuple):
    """What a forward pass leaves for the backward pass.

    Attributes:
        gates: after their functions, [T, B, G*H].
        states: h after each step, [T, B, H], zero in padding.
        cells: the same of c, LSTM only.
        inner: W_hn h + b_hn, GRU with the reset gate after the product only.
    """

    gates: Tensor
    states: Tensor
    cells: Tensor | None = None
    inner: Tensor | None = None


class Upstream(NamedTuple):
    """Gradients of what a forward pass gave: output [T, B, H], the last h and c [B, H]."""

    output: Tensor
    h: Tensor
    c: Tensor | None


class Gradients(NamedTuple):
    """What a backward pass gives; see :class:`Inputs`."""

    gates: Tensor
    weights: Tensor
    bias: Tensor
    h0: Tensor
    c0: Tensor | None


def carried_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of what is carried from step to step, where the gates have ``dtype``."""
    return torch.promote_types(dtype, torch.float32)


class Pass:
    """Common to both directions of computation.

    Args:
        inputs: of the layer.
        reverse: whether time runs backwards.
    """

    def __init__(self, inputs: Inputs, *, reverse: bool) -> None:
        self.inputs = inputs
        self.reverse = reverse
        self.time, self.batch, _ = inputs.gates.shape
        self.size = inputs.h0.shape[-1]
        self.dtype = inputs.gates.dtype
        self.carried = carried_dtype(self.dtype)

    def product(self, first: int, count: int) -> Product:
        """The product of W_hh for some gates."""
        one = self.inputs
        return Product(
            one.weights, one.factors, one.rows, first=first, count=count, batch=self.batch
        )

    def new_history(self) -> Tensor:
        """Room for something of every step, [T, B, H]."""
        return self.inputs.gates.new_empty((self.time, self.batch, self.size))

    def at_step(self, mask: Tensor | None, t: int) -> Tensor | None:
        """The factors of step t."""
        return None if mask is None else mask[t if mask.shape[0] > 1 else 0]

    def launch(self, kernel: Any, t: int, **arguments: Any) -> None:  # noqa: ANN401 # Triton's
        """Runs a kernel over the elements [B, H] of step t."""
        elements = self.batch * self.size
        grid = ((elements + BLOCK - 1) // BLOCK,)
        kernel[grid](
            **arguments,
            lengths=self.inputs.lengths,
            t=t,
            elements=elements,
            size=self.size,
            BLOCK=BLOCK,
        )


class ForwardPass(Pass, ABC):
    """All steps of a layer; subclasses know the cell."""

    def __init__(self, inputs: Inputs, *, reverse: bool) -> None:
        super().__init__(inputs, reverse=reverse)
        self.gates = inputs.gates.clone()
        self.bias = inputs.bias.to(self.carried)
        self.h = inputs.h0.to(self.carried, copy=True)
        self.c: Tensor | None = None
        self.states = self.new_history()
        self.output = self.states

    def run(self) -> tuple[Tensor, Tensor, Tensor | None, Saved]:
        """The output [T, B, H], the last h and c [B, H], and what the backward pass needs."""
        times = range(self.time)
        for t in reversed(times) if self.reverse else times:
            self.step(t)
        return self.output, self.h, self.c, self.saved()

    @abstractmethod
    def step(self, t: int) -> None:
        """Runs step t."""

    @abstractmethod
    def saved(self) -> Saved:
        """What the backward pass needs."""


class BackwardPass(Pass, ABC):
    """All steps of a layer, last first; subclasses know the cell.

    Args:
        inputs: of the layer.
        saved: by the forward pass.
        upstream: gradients of its results.
        reverse: whether the forward pass ran backwards in time.
    """

    def __init__(self, inputs: Inputs, saved: Saved, upstream: Upstream, *, reverse: bool) -> None:
        super().__init__(inputs, reverse=reverse)
        self.saved = saved
        self.d_output = upstream.output
        self.dh = upstream.h.to(self.carried, copy=True)
        self.dc = None if upstream.c is None else upstream.c.to(self.carried, copy=True)
        self.initial = inputs.h0.to(self.dtype)
        self.d_gates = torch.empty_like(saved.gates)

    def run(self) -> Gradients:
        """The gradients of everything that is no mask."""
        times = range(self.time)
        for t in times if self.reverse else reversed(times):
            self.step(t)
        return self.gradients()

    @abstractmethod
    def step(self, t: int) -> None:
        """Runs step t."""

    @abstractmethod
    def gradients(self) -> Gradients:
        """After the last step."""

    def begin_on_gates(self, product: Product) -> bool:
        """Begins a product whose gradient is that of the gates, and says if it stands apart.

        One product reads the gates' gradients where they are, several have a copy each.
        """
        is_apart = product.products > 1
        product.begin_backward(
            product.new_gradients(self.time, self.batch) if is_apart else self.d_gates[:, None]
        )
        return is_apart

    def previous(self, history: Tensor, initial: Tensor, t: int) -> Tensor:
        """What step t began with, [B, H], but for a short row's last step in reverse."""
        before = t + 1 if self.reverse else t - 1
        return history[before] if 0 <= before < self.time else initial

    def states_before(self) -> Tensor:
        """The h that each step began with, [T, B, H]."""
        states, initial = self.saved.states, self.initial
        if not self.reverse:
            return torch.cat((initial[None], states[:-1]))
        shifted = torch.cat((states[1:], initial[None]))
        if self.inputs.lengths is None:
            return shifted
        times = torch.arange(self.time, device=states.device)[:, None]
        is_first = times + 1 >= self.inputs.lengths
        return torch.where(is_first[:, :, None], initial, shifted)

    def collected(self, products: Sequence[Product], operands: Sequence[Tensor]) -> Gradients:
        """The gradients, from those of the products.

        Args:
            products: of neighbouring gates, in their order.
            operands: what each of them multiplied at every step, [T, B, H]; the
                first multiplied h.
        """
        pairs = zip(products, operands, strict=True)
        return Gradients(
            self.d_gates,
            torch.cat([product.d_weights(operand) for product, operand in pairs], dim=1),
            torch.cat([product.d_bias(self.carried) for product in products]),
            self.dh + products[0].d_h(),
            self.dc,
        )
