"""Where the states of series are besides this process, so that another replica finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.serve.settings import Settings
    from tidegate.serve.store.redis_store import RedisStore

MEMORY = "memory"


def open_store(settings: Settings) -> RedisStore | None:
    """The store of the settings; None for states in this process alone.

    Raises:
        ValueError: The store is not known, or cannot work with these settings.
    """
    url = settings.state_store
    if url == MEMORY:
        return None
    if not url.startswith(("redis://", "rediss://", "unix://")):
        # The rest of a URL may be a password.
        raise ValueError(
            f"state_store is {url.partition('://')[0]!r}: use {MEMORY!r} or redis://HOST:PORT/DB"
        )
    if settings.checkpoint_key_file is None:
        raise ValueError(
            "state_store redis needs --checkpoint-key-file: what is stored is signed, and all "
            "replicas must have the same key"
        )
    try:
        # Not everybody who serves needs it.
        from tidegate.serve.store.redis_store import RedisStore
    except ModuleNotFoundError as error:
        raise ValueError("state_store redis needs pip install 'tidegate[redis]'") from error
    return RedisStore(
        url,
        settings.state_ttl_seconds,
        settings.state_timeout_seconds,
        settings.state_store_password_file,
    )
