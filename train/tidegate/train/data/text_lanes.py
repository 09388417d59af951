"""A long text laid out on the rows of a batch, for truncated back-propagation.

Dimensions: N tokens, B lanes, T steps of a segment.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tidegate.train.data.buckets import IGNORED
from tidegate.train.data.corpus import Ids

# Merity, Keskar and Socher 2017, section 5: the share of segments around the whole
# length, the others are around half of it; and how far they spread.
_WHOLE = 0.95
_SPREAD = 5.0
_SHORTEST = 5


class TextSegment(NamedTuple):
    """One batch of truncated back-propagation.

    Attributes:
        tokens: ids, int64 [B, T].
        targets: the token after each one; -100 beyond the end of the text.
    """

    tokens: Tensor
    targets: Tensor


def text_segments(
    ids: Ids, lanes: int, bptt: int, generator: np.random.Generator | None = None
) -> Iterator[TextSegment]:
    """Lays a text out on lanes that follow each other, and cuts all of them at once.

    Each lane reads on from segment to segment, so that its state is carried. Every
    token but the first of the text is a target exactly once: the last target of a
    lane is the first token of the next.

    Args:
        ids: int64 [N], at least 2.
        lanes: B; no more than there are targets are used.
        bptt: T.
        generator: draws the length of each segment anew, so that gradients are not
            always cut at the same tokens; None: all have ``bptt`` steps.
    """
    targets = len(ids) - 1
    lanes = min(lanes, targets)
    share = -(-targets // lanes)
    padded = np.full(lanes * share + 1, IGNORED, np.int64)
    padded[: len(ids)] = ids
    after = torch.from_numpy(padded[1:].reshape(lanes, share).copy())
    tokens = torch.from_numpy(np.maximum(padded[:-1], 0).reshape(lanes, share))
    start = 0
    while start < share:
        stop = start + (bptt if generator is None else _length(bptt, generator))
        yield TextSegment(tokens[:, start:stop], after[:, start:stop])
        start = stop


def _length(bptt: int, generator: np.random.Generator) -> int:
    middle = bptt if generator.random() < _WHOLE else bptt / 2
    return max(min(_SHORTEST, bptt), int(generator.normal(middle, _SPREAD)))
