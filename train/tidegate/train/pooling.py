"""One vector for a sentence from the vectors of its words.

Dimensions: B batch (sentences), T time (words), W width.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_choice

PoolingName = Literal["max", "mean", "attention"]
POOLINGS = ("max", "mean", "attention")


class MaxPooling(nn.Module):
    """The largest value over the words, in each of the W places.

    Source: Collobert et al. 2011, "Natural Language Processing (Almost) from Scratch".
    """

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, W] and lengths [B] to [B, W]."""
        return hidden.masked_fill(_padding(hidden, lengths), -torch.inf).amax(dim=1)


class MeanPooling(nn.Module):
    """The mean over the words, in each of the W places.

    Source: Tang, Qin and Liu 2015, "Document Modeling with Gated Recurrent Neural
    Network for Sentiment Classification".
    """

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, W] and lengths [B] to [B, W]."""
        real = hidden.masked_fill(_padding(hidden, lengths), 0.0)
        return real.sum(dim=1) / lengths[:, None]


class AttentionPooling(nn.Module):
    """A mean over the words, weighted by how much each one says.

    weight_t = softmax_t(v . tanh(A h_t + b))

    Source: Yang et al. 2016, "Hierarchical Attention Networks for Document
    Classification".

    Args:
        width: W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """[B, T, W] and lengths [B] to [B, W]."""
        scores = self.score(torch.tanh(self.hidden(hidden)))
        weights = scores.masked_fill(_padding(hidden, lengths), -torch.inf).softmax(dim=1)
        pooled: Tensor = (weights * hidden).sum(dim=1)
        return pooled


Pooling: TypeAlias = MaxPooling | MeanPooling | AttentionPooling


def build_pooling(name: PoolingName, width: int) -> Pooling:
    """The pooling by its name.

    Raises:
        ValueError: it is unknown.
    """
    check_choice("pooling", name, POOLINGS)
    if name == "attention":
        return AttentionPooling(width)
    return MaxPooling() if name == "max" else MeanPooling()


def _padding(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Which words are padding, bool [B, T, 1]."""
    return (torch.arange(hidden.shape[1], device=hidden.device) >= lengths[:, None])[:, :, None]
