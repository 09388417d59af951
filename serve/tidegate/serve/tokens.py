"""Bearer tokens and what each may do, from a file."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.serve.rate_limit import TokenBucket

if TYPE_CHECKING:
    from pathlib import Path

ROLES = ("infer", "read", "admin")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {"name", "sha256", "roles", "requests_per_second", "burst"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """A bearer token, known by its digest.

    Attributes:
        name: Who holds it; series belong to this name.
        digest: SHA-256 of the token.
        roles: "infer", "read" or "admin".
        bucket: Its rate limit; None: there is none.
    """

    name: str
    digest: bytes
    roles: frozenset[str]
    bucket: TokenBucket | None

    def may(self, role: str) -> bool:
        """Whether it has a role; admin has all."""
        return role in self.roles or "admin" in self.roles


class TokenFile:
    """The tokens of a TOML file, read again when it changes.

    A changed file that is wrong is logged, and the tokens stay as they were.

    Args:
        path: Of the file; see `parse`.

    Raises:
        ValueError: The file cannot be read, or is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._read_stamp()
        self._tokens = _read(path)

    def find(self, secret: str) -> Token | None:
        """The token with this text, in a time that does not tell how near others are."""
        self._follow()
        digest = hashlib.sha256(secret.encode()).digest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def again(self, token: Token) -> Token | None:
        """What the file says by now of a token that was found before; None: nothing."""
        self._follow()
        same = (one for one in self._tokens if (one.name, one.digest) == (token.name, token.digest))
        return next(same, None)

    def _follow(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = _read(self._path)
        except ValueError as error:
            logger.error("the tokens stay as they were: %s", error)  # noqa: TRY400 - the text says it
        else:
            logger.info("read the tokens again", extra={"tokens": len(self._tokens)})

    def _read_stamp(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return status.st_mtime_ns, status.st_size, status.st_ino


def parse(text: str) -> list[Token]:
    """Reads tokens from TOML, a table for each.

        [[tokens]]
        name = "sensors"
        sha256 = "..."            # printf %s "$TOKEN" | sha256sum
        roles = ["infer"]         # see docs/serving.md
        requests_per_second = 50  # optional: calls, and messages on streams
        burst = 100               # optional: so many at once; as many as a second if left out

    Raises:
        ValueError: The text names the token and what is wrong with it.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is no TOML: {error}") from error
    entries = document.pop("tokens", [])
    if document or not isinstance(entries, list) or not entries:
        raise ValueError(f"it needs [[tokens]] tables and nothing else; it has {[*document]}")
    tokens = [_token(number, entry) for number, entry in enumerate(entries, start=1)]
    for what in ("name", "digest"):
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise ValueError(f"two tokens have the same {what}")
    return tokens


def _read(path: Path) -> list[Token]:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"tokens file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"tokens file {path}: {error}") from error


def _token(number: int, entry: object) -> Token:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise ValueError(f"token {number} has no name")
    name = entry["name"]
    if unknown := entry.keys() - _KEYS:
        raise ValueError(f"token {name!r} has unknown keys {sorted(unknown)}; use {sorted(_KEYS)}")
    sha256, roles = entry.get("sha256"), entry.get("roles")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(
            f"token {name!r} needs sha256, the token's SHA-256 in hexadecimal: "
            "printf %s TOKEN | sha256sum"
        )
    if not isinstance(roles, list) or not roles or not set(map(str, roles)) <= set(ROLES):
        raise ValueError(f"token {name!r} has the roles {roles}; use some of {list(ROLES)}")
    return Token(name, bytes.fromhex(sha256), frozenset(roles), _bucket(name, entry))


def _bucket(name: str, entry: dict[str, Any]) -> TokenBucket | None:
    rate = entry.get("requests_per_second")
    burst = entry.get("burst", rate)
    if rate is None and burst is None:
        return None
    for key, value in (("requests_per_second", rate), ("burst", burst)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise ValueError(f"token {name!r} has {key} = {value}; use a number above 0")
    return TokenBucket(float(rate or 0), max(1.0, float(burst or 0)))
