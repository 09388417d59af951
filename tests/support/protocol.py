"""A client's protocol on real services, without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from support.memory_driver import MemoryDriver
from tidegate.client import Retry
from tidegate.client.protocol import Answer, Protocol
from tidegate.client.requests import reference
from tidegate.client.targets import Targets
from tidegate.serve.service import Service

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 40


def values(rows: int = ROWS, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def protocol_of(targets: int = 2, **options: Any) -> Protocol:
    retry = options.pop("retry", Retry(seconds=10, clock=lambda: 0.0, draw=lambda: 0.5))
    options = {"checkpoint_every": 4, "every_step": False} | options
    return Protocol(reference("gru"), Targets(targets, retry), **options)


async def exchange(
    driver: MemoryDriver, protocol: Protocol, chunks: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    answer: Answer = await driver.do(protocol.exchange(chunks))
    if answer.errors:
        raise answer.errors[0]
    return answer.forecasts


async def undisturbed(service: Service, keys: dict[str, int]) -> dict[str, NDArray[np.float32]]:
    """The forecast after every row of some series, each sent at once."""
    driver, protocol = MemoryDriver([service]), protocol_of(1, every_step=True)
    await driver.do(protocol.open(list(keys), reset=True))
    chunks = {key: values(seed=seed) for key, seed in keys.items()}
    forecasts = await exchange(driver, protocol, chunks)
    await driver.close(protocol)
    return forecasts
