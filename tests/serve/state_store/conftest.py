"""One Redis for each test, and replicas that share it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis

from support.redis_server import RedisServer
from support.replicas import KEY, Replica
from tidegate.serve.service import Service
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.key"
    path.write_bytes(KEY)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def database(store: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(store.url) as connection:
        yield connection


@pytest.fixture
def replica(models: Path, key_file: Path, store: RedisServer) -> Replica:
    """Makes replicas without sockets."""

    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Service]:
        settings: dict[str, Any] = {"checkpoint_key_file": key_file, "state_store": store.url}
        settings |= {"state_timeout_seconds": 0.2} | options
        service = Service(Settings(models=models, provider="cpu", **settings))
        service.start()
        try:
            yield service
        finally:
            await service.stop(0)

    return make
