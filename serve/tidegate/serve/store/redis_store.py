"""States in Redis, or what speaks its protocol; no other file imports `redis`.

Not for Redis Cluster: a script takes series of several slots at once.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tidegate.serve.errors import (
    AlreadyExistsError,
    PermissionDeniedError,
    ServingError,
    UnavailableError,
)
from tidegate.serve.store import scripts
from tidegate.serve.store.records import Claimed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tidegate.serve.store.records import Claim, Write

_PREFIX = "tidegate/replica/"


class RedisStore:
    """Claims and writes, each for many series in one round trip.

    Args:
        url: redis://, rediss:// or unix://.
        ttl_seconds: Time a series is stored after its last write.
        timeout_seconds: Time for one round trip.
        password_file: File of the password; None: what the URL says.

    Raises:
        ValueError: The password cannot be read, or is given twice.
    """

    def __init__(
        self,
        url: str,
        ttl_seconds: float,
        timeout_seconds: float,
        password_file: Path | None = None,
    ) -> None:
        # Once more for a connection that went stale; for the rest the caller decides
        # what to do without Redis, and when to try again.
        self._redis = redis.asyncio.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            credential_provider=_credentials(url, password_file),
        )
        self._ttl = round(1000 * ttl_seconds)
        self._replica = secrets.token_hex(8)
        self._claim = self._redis.register_script(scripts.CLAIM)
        self._write = self._redis.register_script(scripts.WRITE)
        self._release = self._redis.register_script(scripts.RELEASE)

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | ServingError]:
        """Holds series, unless they belong to others.

        Raises:
            UnavailableError: Redis does not answer.
        """
        arguments: list[Any] = [self._ttl, self._replica, _PREFIX]
        for claim in claims:
            arguments += [claim.identity, int(claim.take_over)]
        with _unavailable():
            answers = await self._claim([claim.name for claim in claims], arguments)
        return [_claimed(*pair) for pair in zip(claims, answers, strict=True)]

    async def write(self, writes: Sequence[Write]) -> list[bool]:
        """Stores values; False for series that another claim has taken.

        Raises:
            UnavailableError: Redis does not answer.
        """
        arguments: list[Any] = [self._ttl]
        for write in writes:
            holder = self._replica if write.held else ""
            arguments += [write.fence, write.identity, holder, write.value]
        with _unavailable():
            stored = await self._write([write.name for write in writes], arguments)
        return [bool(one) for one in stored]

    async def release(self, names: Sequence[str]) -> None:
        """Gives up claims that led to nothing.

        Raises:
            UnavailableError: Redis does not answer.
        """
        with _unavailable():
            await self._release(names, [self._replica])

    async def beat(self, seconds: float) -> bool:
        """Says that this replica lives, for so long; False if Redis does not remember it.

        Raises:
            UnavailableError: Redis does not answer.
        """
        with _unavailable():
            before = await self._redis.set(
                _PREFIX + self._replica, 1, px=round(1000 * seconds), get=True
            )
        return before is not None

    async def leave(self) -> None:
        """Says that this replica is no more.

        Raises:
            UnavailableError: Redis does not answer.
        """
        with _unavailable():
            await self._redis.delete(_PREFIX + self._replica)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()


class _PasswordFile(CredentialProvider):
    """The password as its file says when a connection begins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str]:
        return (self._path.read_text(encoding="utf-8").strip(),)

    async def get_credentials_async(self) -> tuple[str]:
        return self.get_credentials()


def _credentials(url: str, password_file: Path | None) -> _PasswordFile | None:
    if password_file is None:
        return None
    if "@" in url:
        raise ValueError(
            "state_store has a user or a password, and state_store_password_file is given: use one"
        )
    credentials = _PasswordFile(password_file)
    try:
        credentials.get_credentials()
    except OSError as error:
        raise ValueError(
            f"state_store_password_file {password_file} cannot be read: {error.strerror}"
        ) from error
    return credentials


def _claimed(claim: Claim, answer: Sequence[bytes]) -> Claimed | ServingError:
    match list(answer):
        case [b"identity"]:
            return PermissionDeniedError(
                f"series {claim.key!r} belongs to another identity: use another key"
            )
        case [b"live"]:
            return AlreadyExistsError(
                f"series {claim.key!r} is live on another server: end the stream that holds it, "
                "start it with take_over, or use another key"
            )
        case [fence, before, value]:
            return Claimed(int(fence), int(before), value)
        case other:
            raise AssertionError(f"the script answered {other}")


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise UnavailableError(
            "the state store cannot be reached: try again, or start the series with a checkpoint "
            "or a reset"
        ) from error
