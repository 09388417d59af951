"""The input's share of the gates, for all steps at once.

Dimensions: T time, B batch, I input size, G gates, H hidden.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.train.cells import Weights


def input_gates(x: Tensor, weights: Weights, mask: Tensor | None) -> Tensor:
    """W_ih (x * mask) + b_ih, [T, B, G*H].

    Args:
        x: [T, B, I].
        weights: of the layer and direction.
        mask: [T or 1, G or 1, B, I].
    """
    if mask is None or mask.shape[1] == 1:
        masked = x if mask is None else x * mask[:, 0]
        return F.linear(masked, weights.weight_ih, weights.bias_ih)
    per_gate = weights.weight_ih.view(mask.shape[1], -1, x.shape[-1])
    products = torch.einsum("tgbi,gki->tbgk", x[:, None] * mask, per_gate)
    return products.flatten(2) + weights.bias_ih
