"""Training a labeller on buckets of sentences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from torch import Tensor

from tidegate.train.data.buckets import batches
from tidegate.train.data.sentences import SentenceSplit
from tidegate.train.evaluate.labelling import encode_labels, predict
from tidegate.train.labeller import Labeller
from tidegate.train.losses import label_loss


@dataclass(frozen=True)
class LabellingTask:
    """A labeller and its sentences, for :func:`tidegate.train.fit.fit`.

    Args:
        model: the labeller.
        sentences: in three parts.
        tokens: most tokens of a batch, padding included.
        seed: of the order.
    """

    model: Labeller
    sentences: SentenceSplit
    tokens: int
    seed: int = 0
    monitor: ClassVar[str] = "validation_accuracy"
    higher_is_better: ClassVar[bool] = True

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Yields the loss of each batch, every sentence once.

        Args:
            epoch: from 1.
            start: batches that are done.
        """
        train = self.sentences.train
        tokens = [self.model.encode(one.words) for one in train]
        labels = [encode_labels(self.model, one) for one in train]
        seed = self.seed * 1_000_003 + epoch
        for _, batch in islice(batches(tokens, labels, self.tokens, seed=seed), start, None):
            yield label_loss(self.model(batch.tokens, batch.lengths), batch.labels)

    def validate(self) -> dict[str, float]:
        """The accuracy over the words of the validation part."""
        answers = predict(self.model, self.sentences.validation, self.tokens)
        return {self.monitor: answers.accuracy}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: no sentence depends on another."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take."""
