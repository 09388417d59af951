"""Labels for sentences: words to token ids, one run for many sentences."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tidegate.serve.encode import Encoder
from tidegate.serve.errors import InvalidArgumentError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.model import Model
    from tidegate.serve.runner import Runner
    from tidegate.serve.settings import Settings


class Annotation(NamedTuple):
    """The labels of one sentence and the probability of each.

    Attributes:
        labels: One for each token; none if the model labels sentences only.
        probabilities: Of the labels.
        sentence_label: Of the whole; empty if the model labels tokens only.
        sentence_probability: Of it.
    """

    labels: list[str]
    probabilities: list[float]
    sentence_label: str = ""
    sentence_probability: float = 0.0


class Annotator:
    """Labels sentences with one model.

    Args:
        model: A labelling model.
        runner: Runs it.
        settings: Limits.
    """

    def __init__(self, model: Model, runner: Runner, settings: Settings) -> None:
        self._model = model
        self._runner = runner
        self._settings = settings
        self._encode = Encoder(model.spec.labelling)
        self._names = list(model.spec.labelling.label_names)
        self._sentence_names = list(model.spec.labelling.sentence_label_names)

    async def annotate(
        self, sentences: Sequence[Sequence[str]], connection: str = ""
    ) -> list[Annotation]:
        """Labels each token of each sentence.

        Args:
            sentences: Their tokens.
            connection: See `Runner.run`.

        Raises:
            ServingError: A sentence is empty or a limit is reached; the text names
                the sentence by its index.
        """
        self._check(sentences)
        if not sentences:
            return []
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        inputs = self._encode([word for sentence in sentences for word in sentence])
        annotations: list[Annotation | None] = [None] * len(sentences)

        def take(members: NDArray[np.int64], outputs: dict[str, NDArray[Any]]) -> None:
            ends = lengths[members].tolist()
            for index, annotation in zip(members.tolist(), self._named(outputs, ends), strict=True):
                annotations[index] = annotation

        await self._runner.run(self._model, inputs, lengths, take, connection)
        return [annotation for annotation in annotations if annotation is not None]

    def _named(
        self, outputs: Mapping[str, NDArray[Any]], ends: Sequence[int]
    ) -> Iterator[Annotation]:
        """One annotation for each row of a run; ends are the rows' lengths."""
        words: Iterable[tuple[list[str], list[float]]] = repeat(([], []))
        if self._names:
            words = [
                ([self._names[label] for label in labels[:end]], shares[:end])
                for labels, shares, end in zip(*_chosen(outputs, ""), ends, strict=True)
            ]
        whole: Iterable[tuple[str, float]] = repeat(("", 0.0))
        if self._sentence_names:
            labels, shares = _chosen(outputs, "sentence_")
            whole = zip([self._sentence_names[label] for label in labels], shares, strict=True)
        for _, of_words, of_whole in zip(ends, words, whole, strict=False):
            yield Annotation(*of_words, *of_whole)

    def _check(self, sentences: Sequence[Sequence[str]]) -> None:
        settings = self._settings
        if len(sentences) > settings.max_sentences:
            raise ResourceExhaustedError(
                f"{len(sentences)} sentences are over the limit of {settings.max_sentences} "
                "(--max-sentences): send them in several requests"
            )
        total = sum(map(len, sentences))
        if total > settings.max_request_tokens:
            raise ResourceExhaustedError(
                f"{total} tokens are over the limit of {settings.max_request_tokens} in one "
                "request (--max-request-tokens): send the sentences in several requests"
            )
        for index, sentence in enumerate(sentences):
            if not sentence:
                raise InvalidArgumentError(f"sentence {index} is empty: send at least one token")
            if len(sentence) > settings.max_tokens:
                raise ResourceExhaustedError(
                    f"sentence {index} has {len(sentence)} tokens, over the limit of "
                    f"{settings.max_tokens} (--max-tokens): split it"
                )
            longest = max(sentence, key=len)
            if len(longest.encode()) > settings.max_token_bytes:
                raise ResourceExhaustedError(
                    f"sentence {index} has a token of {len(longest.encode())} bytes, over the "
                    f"limit of {settings.max_token_bytes} (--max-token-bytes)"
                )


def _chosen(outputs: Mapping[str, NDArray[Any]], prefix: str) -> tuple[list[Any], list[Any]]:
    """The labels of an output, and the probability of each."""
    labels, probabilities = outputs[f"{prefix}labels"], outputs[f"{prefix}probabilities"]
    chosen = np.take_along_axis(probabilities, labels[..., None], axis=-1)[..., 0]
    return labels.tolist(), chosen.tolist()
