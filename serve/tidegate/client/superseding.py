"""A new version of the model: what the caller is told, and what it may choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from tidegate.client.errors import SupersededError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


class Superseded(NamedTuple):
    """The server has put another version in the place of the one that a stream runs.

    Attributes:
        model: "name/version" that the states of the stream are of.
        successor: "name/version" that the stream goes on with.
        offsets: Of each live series the observation to send next.
        history: Of each live series the last observations before that, float32
            [rows, features], as many as the stream keeps.
        features: Names of the columns of `history`.
        successor_features: Those that the successor reads.
    """

    model: str
    successor: str
    offsets: Mapping[str, int]
    history: Mapping[str, NDArray[np.float32]]
    features: Sequence[str]
    successor_features: Sequence[str]


Histories: TypeAlias = "Mapping[str, ArrayLike]"
# Gives of each series the observations before its next one, which the successor
# reads first; a series that is left out begins without any.
OnSuperseded: TypeAlias = Callable[[Superseded], Histories]
AsyncOnSuperseded: TypeAlias = Callable[[Superseded], "Histories | Awaitable[Histories]"]


def replay_history(notice: Superseded) -> Mapping[str, ArrayLike]:
    """Lets the successor read what the stream has kept.

    Raises:
        SupersededError: It reads other features.
    """
    if notice.features != notice.successor_features:
        raise SupersededError(
            f"{notice.successor} reads the features {list(notice.successor_features)}, "
            f"{notice.model} read {list(notice.features)}: open the stream again"
        )
    return notice.history
