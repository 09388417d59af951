"""Replicas without sockets that share a state store, and what is asked of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import redis

from support.streams import Wire
from tidegate.serve.service import Service

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from numpy.typing import NDArray

KEY = bytes(range(32))


def values(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


class Replica(Protocol):
    """Makes a replica without a socket."""

    def __call__(self, **options: Any) -> AbstractAsyncContextManager[Service]: ...


async def flush(service: Service) -> None:
    assert service.journal is not None
    await service.journal.flush()


async def available(service: Service, expected: bool) -> None:
    """Waits until the service has noticed."""
    status = service.store_status
    assert status is not None
    seen: asyncio.Queue[bool] = asyncio.Queue()
    service.on_store = seen.put_nowait
    while status.available != expected:
        await seen.get()


async def started_offset(wire: Wire, **options: Any) -> int:
    (response,) = await wire.start_responses("gru", "a", **options)
    return response.started.series[0].next_offset


def is_behind(service: Service) -> bool:
    assert service.store_status is not None
    return service.store_status.behind_since is not None


def stored_offset(service: Service, database: redis.Redis, key: str) -> int:
    value = database.hget(f"tidegate/gru/1/{key}", "v")
    assert isinstance(value, bytes)
    model = service.repository.get("gru")
    return service.signer.open(value, model, key, "").next_offset
