"""The losses of forecasts and of labels.

Dimensions: B batch, T time, K horizon, N targets, Q quantile levels, C labels.
"""

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.train.data.buckets import IGNORED

LossName: TypeAlias = Literal["pinball", "squared"]


def pinball_loss(quantiles: Tensor, y: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """Mean pinball loss of quantile forecasts, in units of each target's scale.

    loss = max(q * e, (q - 1) * e) with e = (y - forecast) / scale; its minimum
    in expectation is the q-quantile.

    Source: Koenker and Bassett 1978, "Regression Quantiles".

    Args:
        quantiles: [B, T, K, N, Q].
        y: [B, T, K, N]; NaN takes no part.
        levels: [Q], each between 0 and 1.
        scale: [N], positive, so that every target counts alike.

    Returns:
        A scalar; 0 when no target is known.
    """
    known = ~y.isnan()
    # Not a product: 0 * NaN is NaN, in the backward pass too.
    error = (torch.where(known, y, 0.0)[..., None] - quantiles) / scale[:, None]
    loss = torch.maximum(levels * error, (levels - 1) * error)
    return mean_of_known(loss.mean(dim=-1), known)


def squared_loss(forecast: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Mean squared error in units of each target's scale; its minimum in expectation is the mean.

    Args:
        forecast: [B, T, K, N].
        y: [B, T, K, N]; NaN takes no part.
        scale: [N], positive, so that every target counts alike.

    Returns:
        A scalar; 0 when no target is known.
    """
    known = ~y.isnan()
    error = (torch.where(known, y, 0.0) - forecast) / scale
    return mean_of_known(error.square(), known)


def mean_of_known(losses: Tensor, known: Tensor) -> Tensor:
    """The mean of those that count; 0 when none does."""
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the words that count.

    Args:
        logits: [B, T, C].
        labels: int64 [B, T]; -100 takes no part.

    Returns:
        A scalar; 0 when no label counts.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp(min=1)
