"""Labels for sentences: words to token ids, one run for many sentences."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tidegate.serve.errors import InvalidArgumentError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tidegate.serve.model import Model
    from tidegate.serve.runner import Runner
    from tidegate.serve.settings import Settings

UNKNOWN = 1


class Annotation(NamedTuple):
    """One label and its probability for each token of a sentence."""

    labels: list[str]
    probabilities: list[float]


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
        self._lower_case = model.spec.labelling.lower_case
        self._names = list(model.spec.labelling.label_names)

    async def annotate(self, sentences: Sequence[Sequence[str]]) -> list[Annotation]:
        """Labels each token of each sentence.

        Raises:
            ServingError: A sentence is empty or a limit is reached; the text names
                the sentence by its index.
        """
        self._check(sentences)
        if not sentences:
            return []
        lengths = np.array([len(sentence) for sentence in sentences], np.int64)
        tokens = self._token_ids(sentences)
        annotations: list[Annotation | None] = [None] * len(sentences)

        def take(members: NDArray[np.int64], outputs: dict[str, NDArray[Any]]) -> None:
            labels = outputs["labels"]
            probabilities = np.take_along_axis(
                outputs["probabilities"], labels[..., None], axis=-1
            )[..., 0]
            for row, index in enumerate(members.tolist()):
                end = len(sentences[index])
                names = [self._names[label] for label in labels[row, :end].tolist()]
                annotations[index] = Annotation(names, probabilities[row, :end].tolist())

        await self._runner.run(self._model, "tokens", tokens, lengths, take)
        return [annotation for annotation in annotations if annotation is not None]

    @cached_property
    def _ids(self) -> dict[str, int]:
        words = enumerate(self._model.spec.labelling.words)
        # A sentence that holds the text of the padding word must not become padding.
        return {word: index for index, word in words if index > UNKNOWN}

    def _token_ids(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        ids = self._ids
        words = [word for sentence in sentences for word in sentence]
        if self._lower_case:
            words = [word.lower() for word in words]
        return np.array([ids.get(word, UNKNOWN) for word in words], np.int64)

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
