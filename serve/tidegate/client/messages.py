"""Rows and forecasts as the messages of a stream carry them.

Legend: F features.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tidegate.client.errors import InvalidArgumentError
from tidegate.client.frames import is_frame, rows_of
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tidegate.client.series import Series
    from tidegate.v1 import model_spec_pb2

T = TypeVar("T")

# Bytes of tokens or rows in one message, far below any server's limit.
_MESSAGE_BYTES = 2**20


def rows_as_sent(key: str, rows: ArrayLike, features: Sequence[str]) -> NDArray[np.float32]:
    """Rows of a series, [rows, F], as a copy: the caller's array may change meanwhile.

    Raises:
        InvalidArgumentError: They have another shape.
    """
    if is_frame(rows):
        rows = rows_of(rows, features)
    array = np.array(rows, "<f4")
    if array.ndim == 1 and len(features) == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != len(features) or not len(array):
        raise InvalidArgumentError(
            f"series {key!r}: rows of {len(features)} features are expected, the array has shape "
            f"{array.shape}",
            key,
        )
    return array


def features_of(spec: model_spec_pb2.ForecastSpec) -> list[str]:
    """Names of the features, in the order in which rows have them."""
    return [feature.name for feature in spec.features]


def observations(chunks: Mapping[Series, tuple[int, NDArray[np.float32]]]) -> pb.Observations:
    """Chunks of several series, each with the offset of its first row."""
    counts = [len(rows) for _, rows in chunks.values()]
    return pb.Observations(
        handles=[series.handle for series in chunks],
        offsets=[offset for offset, _ in chunks.values()],
        rows=() if max(counts) == 1 else counts,
        values=b"".join([rows.tobytes() for _, rows in chunks.values()]),
    )


def forecasts_by_handle(
    forecasts: pb.Forecasts, shape: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The forecasts of one message, float32 [entries, *shape] of each series."""
    quantiles = np.frombuffer(forecasts.quantiles, "<f4").reshape(-1, *shape)
    handles = np.array(forecasts.handles, np.int64)
    # Those of one series follow each other.
    starts = np.flatnonzero(np.diff(handles, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(handles)]):
        yield int(handles[start]), quantiles[start:end]


def parts(items: Sequence[T], sizes: Sequence[int]) -> Iterator[Sequence[T]]:
    """Cuts a sequence where a part would get over the size of a message; never none at all."""
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if total and total + size > _MESSAGE_BYTES:
            yield items[start:index]
            start, total = index, 0
        total += size
    yield items[start:]
