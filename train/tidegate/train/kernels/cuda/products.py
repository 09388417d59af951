"""The products with W_hh: one matrix product a step, or one batched product where masks need more.

Dimensions: T time, B batch, H hidden, G gates; P parts of the weights (2 where
each row has its own mask on W_hh, else 1), N products of a step (P, or P * G
where each gate has its own mask on h), W rows of the weights in each.
"""

from typing import Any

import torch
from torch import Tensor


class Product:
    """W_hh (h * mask) for neighbouring gates, and its gradient.

    Args:
        weights: [P, G*H, H].
        factors: masks on h, [P or P*G, B, H].
        rows: of the second part: its factors of each row and unit, [B, G*H].
        first: the first gate.
        count: of gates.
        batch: B.
    """

    def __init__(
        self,
        weights: Tensor,
        factors: Tensor | None,
        rows: Tensor | None,
        *,
        first: int,
        count: int,
        batch: int,
    ) -> None:
        parts, _, size = weights.shape
        gates = slice(first, first + count)
        by_gate = factors is not None and factors.shape[0] > parts
        products = parts * count if by_gate else parts
        self.parts, self.products, self._size = parts, products, size
        self.weight = weights.view(parts, -1, size, size)[:, gates].reshape(products, -1, size)
        self.factors, self.rows = factors, None
        if factors is not None and by_gate:
            of_gates = factors.view(parts, -1, batch, size)[:, gates]
            self.factors = of_gates.reshape(products, batch, size).contiguous()
        if rows is not None:
            of_gates = rows.view(batch, -1, size)[:, gates]
            self.rows = (of_gates.transpose(0, 1) if by_gate else of_gates).contiguous()
        # From a part, a gate and a row to the next, in what is multiplied and in its gradient.
        self.strides = (
            batch * count * size,
            batch * size if by_gate else size,
            size if by_gate else count * size,
        )

    def arguments(self) -> dict[str, Any]:
        """What a kernel that reads :attr:`result`, or stores its gradient, is told of it."""
        stride_part, stride_gate, stride_row = self.strides
        return {
            "rows": self.rows,
            "stride_part": stride_part,
            "stride_gate": stride_gate,
            "stride_row": stride_row,
            "PARTS": self.parts,
        }

    def operand_arguments(self) -> dict[str, Any]:
        """What a kernel that stores :attr:`operands` is told of them."""
        return {"operands": self.operands, "factors": self.factors, "PRODUCTS": self.products}

    def d_operand_arguments(self) -> dict[str, Any]:
        """What a kernel that reads :attr:`d_operands` is told of them."""
        return {"d_operands": self.d_operands, "factors": self.factors, "PRODUCTS": self.products}

    def begin(self, h: Tensor, dtype: torch.dtype) -> None:
        """Makes the buffers of the forward pass, and the first step's operands from h [B, H]."""
        masked = h.expand(self.products, *h.shape) if self.factors is None else h * self.factors
        self.operands = masked.to(dtype, copy=True, memory_format=torch.contiguous_format)
        width = self.weight.shape[1]
        self.result = self.operands.new_empty((self.products, h.shape[0], width))

    def multiply(self) -> Tensor:
        """The products [N, B, W] of the operands [N, B, H]."""
        if self.products == 1:
            torch.mm(self.operands[0], self.weight[0].t(), out=self.result[0])
        else:
            torch.bmm(self.operands, self.weight.transpose(1, 2), out=self.result)
        return self.result

    def begin_backward(self, gradients: Tensor) -> None:
        """Takes where the gradients of all steps' products will stand, [T, N, B, W]."""
        self.gradients = gradients
        _, products, batch, _ = gradients.shape
        self.d_operands = gradients.new_zeros((products, batch, self._size))

    def new_gradients(self, time: int, batch: int) -> Tensor:
        """Room for :meth:`begin_backward`."""
        return self.weight.new_empty((time, self.products, batch, self.weight.shape[1]))

    def multiply_back(self, t: int) -> None:
        """From the gradient of a step's products to that of its operands, [N, B, H]."""
        if self.products == 1:
            torch.mm(self.gradients[t, 0], self.weight[0], out=self.d_operands[0])
        else:
            torch.bmm(self.gradients[t], self.weight, out=self.d_operands)

    def d_h(self) -> Tensor:
        """What the gradient of the operands adds to that of h, [B, H], in the masks' dtype."""
        if self.factors is None:
            return self.d_operands.sum(0)
        return (self.d_operands * self.factors).sum(0)

    def d_weights(self, before: Tensor) -> Tensor:
        """The gradient of the weights of these gates, [P, W * N / P, H].

        Args:
            before: what each step multiplied, before masks, [T, B, H].
        """
        pieces: list[Tensor] = []
        for index in range(self.products):
            operand = before
            if self.factors is not None:
                operand = (before * self.factors[index]).to(before.dtype)
            gradient = self.gradients[:, index].flatten(0, 1)
            pieces.append(gradient.t() @ operand.flatten(0, 1))
        return torch.stack(pieces).view(self.parts, -1, self._size)

    def d_bias(self, dtype: torch.dtype) -> Tensor:
        """The gradient of the bias of these gates."""
        first_part = self.gradients[:, : self.products // self.parts]
        return first_part.sum((0, 2), dtype=dtype).flatten()
