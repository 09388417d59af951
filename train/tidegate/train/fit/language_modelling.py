"""Training a language model: truncated back-propagation over lanes of one long text.

Dimensions: B lanes, T steps of a segment, H hidden, V tokens of the vocabulary.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.train.data.buckets import IGNORED
from tidegate.train.data.corpus import Corpus
from tidegate.train.data.text_lanes import text_segments
from tidegate.train.evaluate.language import score_text
from tidegate.train.fit.task import Validated
from tidegate.train.language_model import LanguageModel, States

# More lanes than any batch has, so that every lane of every epoch has a number of its own.
_LANES = 1 << 32
# The validation part is read in so many rows at once, as is usual.
_VALIDATION_LANES = 10


@dataclass
class LanguageModellingTask:
    """A language model and its text, for :func:`tidegate.train.fit.fit`.

    Args:
        model: the language model.
        corpus: in three parts.
        lanes: B.
        bptt: T, steps that a gradient goes back.
        seed: of the segments' lengths.
        variable_bptt: draws the length of each segment around ``bptt`` (Merity,
            Keskar and Socher 2017, section 5).
        activation: alpha, times the mean square of the network's output (AR).
        temporal_activation: beta, times the mean square of its change from step to
            step (TAR).
        persistent_masks: whether a lane keeps its masks per sequence for the whole
            epoch, as it keeps its state; else each segment has new ones.

    Source of AR and TAR: Merity, McCann and Socher 2017, "Revisiting Activation
    Regularization for Language RNNs", arXiv 1708.01009.
    """

    model: LanguageModel
    corpus: Corpus
    lanes: int
    bptt: int
    seed: int = 0
    variable_bptt: bool = False
    activation: float = 0.0
    temporal_activation: float = 0.0
    persistent_masks: bool = False
    monitor: ClassVar[str] = "validation_perplexity"
    higher_is_better: ClassVar[bool] = False
    _carried: States | None = field(default=None, init=False)

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Yields the loss of each segment; the state goes on, the gradient does not.

        The loss is in nats per token of a full segment: every token weighs the same,
        however long its segment is. With plain SGD that is AWD's learning rate in
        proportion to the length.

        Args:
            epoch: from 1.
            start: segments that are done; their last state was loaded.
        """
        if not start:
            self._carried = None
        generator = np.random.default_rng((self.seed, epoch)) if self.variable_bptt else None
        segments = text_segments(self.corpus.train, self.lanes, self.bptt, generator)
        device = self.model.bias.device
        for pair in islice(segments, start, None):
            tokens, targets = (one.to(device) for one in pair)
            lanes = torch.arange(len(tokens), device=device)
            numbers = epoch * _LANES + lanes if self.persistent_masks else None
            logits, states, hidden = self.model(tokens, None, self._carried, sequences=numbers)
            # The value goes on, the gradient ends here: this is the truncation.
            self._carried = tuple(tensor.detach() for tensor in states)
            total = F.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            yield total / (len(tokens) * self.bptt) + self._activity(hidden)

    def validate(self) -> Validated:
        """The scores of the validation part, and the loss of every token."""
        corpus = self.corpus
        scored = score_text(self.model, corpus.validation, corpus.train, lanes=_VALIDATION_LANES)
        scores = {f"validation_{name}": value for name, value in scored.metrics().items()}
        return Validated(scores, scored)

    def state_dict(self) -> dict[str, Any]:
        """The state that the lanes carry."""
        return {"carried": None if self._carried is None else list(self._carried)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the state that another task's lanes carry."""
        carried, device = state["carried"], self.model.bias.device
        self._carried = None if carried is None else tuple(one.to(device) for one in carried)

    def _activity(self, hidden: Tensor) -> Tensor:
        """What AR and TAR add, of the output [B, T, H] as the softmax sees it."""
        added = hidden.new_zeros(())
        if self.activation:
            added = added + self.activation * hidden.square().mean()
        if self.temporal_activation and hidden.shape[1] > 1:
            added = added + self.temporal_activation * hidden.diff(dim=1).square().mean()
        return added
