"""Training a labeller on buckets of sentences."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

from torch import Tensor

from tidegate.train.data.buckets import Encoded, batches
from tidegate.train.data.sentences import SentenceSplit
from tidegate.train.data.spans import are_span_labels
from tidegate.train.evaluate.labelling import encode, predict
from tidegate.train.fit.task import Validated
from tidegate.train.labeller import Labeller


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
    higher_is_better: ClassVar[bool] = True

    @property
    def monitor(self) -> str:
        """What chooses the best epoch.

        Sentences that are right in all (words and whole), or spans (F1), or words
        or sentences (accuracy): whatever the model's labels allow first.
        """
        model = self.model
        if model.label_names and model.sentence_label_names:
            return "validation_exact_match"
        if model.sentence_label_names:
            return "validation_sentence_accuracy"
        return "validation_f1" if are_span_labels(model.label_names) else "validation_accuracy"

    def losses(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Yields the loss of each batch, every sentence once.

        Args:
            epoch: from 1.
            start: batches that are done.
        """
        seed = self.seed * 1_000_003 + epoch
        device = self.model.embedding.weight.device
        for _, on_cpu in islice(batches(self._train, self.tokens, seed=seed), start, None):
            batch = on_cpu.to(device)
            scores = self.model(batch.tokens, batch.lengths, batch.chars)
            yield self.model.loss(scores, batch.labels, batch.sentence_labels, batch.lengths)

    def validate(self) -> Validated:
        """The scores of the validation part, and the labels given."""
        answers = predict(
            self.model, self.sentences.validation, self.tokens, encoded=self._validation
        )
        scores = {f"validation_{name}": value for name, value in answers.metrics().items()}
        return Validated(scores, answers)

    @cached_property
    def _train(self) -> list[Encoded]:
        """The training part in numbers: the vocabulary is the same in all epochs."""
        return encode(self.model, self.sentences.train)

    @cached_property
    def _validation(self) -> list[Encoded]:
        return encode(self.model, self.sentences.validation)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: no sentence depends on another."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take."""
