"""Rows to send, and what a refusal must say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np

from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from numpy.typing import NDArray


def values(rows: int, features: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


def assert_refused(
    response: pb.StreamForecastResponse, code: grpc.StatusCode, key: str, text: str
) -> pb.SeriesError:
    error = response.error
    assert response.WhichOneof("response") == "error", response
    assert (error.code, error.key) == (code.value[0], key)
    assert text in error.message
    return error
