"""Training a labeller on buckets of sentences."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

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

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """Yields the loss of each batch, every sentence once."""
        train = self.sentences.train
        tokens = [self.model.encode(one.words) for one in train]
        labels = [encode_labels(self.model, one) for one in train]
        seed = self.seed * 1_000_003 + epoch
        for _, batch in batches(tokens, labels, self.tokens, seed=seed):
            yield label_loss(self.model(batch.tokens, batch.lengths), batch.labels)

    def validate(self) -> dict[str, float]:
        """The accuracy over the words of the validation part."""
        answers = predict(self.model, self.sentences.validation, self.tokens)
        return {self.monitor: answers.accuracy}
