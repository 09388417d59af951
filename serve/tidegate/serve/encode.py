"""Words as the numbers that a labelling model reads.

Legend: R words of all sentences, C characters of the longest word in a run.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from tidegate.serve.ragged import RaggedRows, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.v1 import model_spec_pb2 as pb

UNKNOWN = 1


class Encoder:
    """Looks words and characters up in the lists of a spec.

    Args:
        labelling: Of the spec.
    """

    def __init__(self, labelling: pb.LabellingSpec) -> None:
        self._lower_case = labelling.lower_case
        self._words = _ids(labelling.words)
        self._characters: _Characters | None = None
        if labelling.HasField("characters"):
            self._characters = _Characters(labelling.characters)

    def __call__(self, words: Sequence[str]) -> dict[str, Rows]:
        """The graph's inputs, a row for each word: `tokens` [R], `chars` [R, C]."""
        looked_up = [word.lower() for word in words] if self._lower_case else words
        ids = self._words
        tokens = np.array([ids.get(word, UNKNOWN) for word in looked_up], np.int64)
        inputs: dict[str, Rows] = {"tokens": tokens}
        if self._characters is not None:
            inputs["chars"] = self._characters(words)
        return inputs


class _Characters:
    def __init__(self, spec: pb.Characters) -> None:
        self._ids = _ids(spec.characters)
        self._most = spec.max_characters
        self._form = spec.normalization

    def __call__(self, words: Sequence[str]) -> RaggedRows:
        # Most words of a text come again and again.
        ids = {word: self._of(word) for word in dict.fromkeys(words)}
        places = {word: place for place, word in enumerate(ids)}
        return RaggedRows(list(ids.values()), np.array([places[word] for word in words], np.int64))

    def _of(self, word: str) -> list[int]:
        text = word
        if self._form:
            form = cast("Literal['NFC', 'NFD', 'NFKC', 'NFKD']", self._form)
            text = unicodedata.normalize(form, word)
        return [self._ids.get(character, UNKNOWN) for character in text[: self._most]]


def _ids(names: Sequence[str]) -> dict[str, int]:
    # A sentence that holds the text of the padding word must not become padding.
    return {name: index for index, name in enumerate(names) if index > UNKNOWN}
