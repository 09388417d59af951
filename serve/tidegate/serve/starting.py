"""Where a series goes on: from a token, a kept state, the store, or offset 0."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from tidegate.serve.errors import ServingError, UnavailableError
from tidegate.serve.store.records import Claim, Claimed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidegate.serve.checkpoint import CheckpointSigner, Restored
    from tidegate.serve.opening import Opened, Opening
    from tidegate.serve.streams import SeriesTable


class Wish(NamedTuple):
    """A series to start, and its checkpoint token if there is one."""

    opening: Opening
    token: bytes


async def start_series(
    wishes: Sequence[Wish], table: SeriesTable, signer: CheckpointSigner
) -> list[Opened | ServingError]:
    """Starts several series in one round trip to the store; says of each what became of it."""
    results: dict[int, Opened | ServingError] = {}
    reserved: dict[int, tuple[Opening, Restored | None]] = {}
    try:
        for index, (opening, token) in enumerate(wishes):
            try:
                table.reserve(opening)
                reserved[index] = opening, None
                if token:
                    reserved[index] = opening, _open(token, opening, table, signer)
            except ServingError as error:
                results[index] = error
        waiting = [index for index in reserved if index not in results]
        claims = await _claim([reserved[index][0] for index in waiting], table)
        for index, claim in zip(waiting, claims, strict=True):
            results[index] = _start(*reserved[index], claim, table, signer)
    finally:
        table.unreserve([opening for opening, _ in reserved.values()])
    return [results[index] for index in range(len(wishes))]


def _open(token: bytes, opening: Opening, table: SeriesTable, signer: CheckpointSigner) -> Restored:
    return signer.open(token, table.model, opening.key, opening.identity)


def _open_stored(
    value: bytes, opening: Opening, table: SeriesTable, signer: CheckpointSigner
) -> Restored:
    try:
        return _open(value, opening, table, signer)
    except ServingError as error:
        raise type(error)(
            f"the stored state of series {opening.key!r} cannot be used: {error}; a start with "
            "reset drops it"
        ) from error


async def _claim(
    openings: Sequence[Opening], table: SeriesTable
) -> list[Claimed | ServingError | None]:
    """Holds series in the store; None for those of which it could not be asked."""
    if table.journal is None or not openings:
        return [None] * len(openings)
    claims = [
        Claim(table.name_of(opening.key), opening.key, opening.identity, opening.take_over)
        for opening in openings
    ]
    claiming = asyncio.ensure_future(table.journal.claim(claims))
    try:
        return [*await asyncio.shield(claiming)]
    except UnavailableError:
        return [None] * len(openings)
    except asyncio.CancelledError:
        # The stream has ended; what it claims belongs to nobody.
        claiming.add_done_callback(lambda done: _give_back(claims, done, table))
        raise


def _give_back(
    claims: Sequence[Claim], done: asyncio.Future[list[Claimed | ServingError]], table: SeriesTable
) -> None:
    if done.cancelled() or done.exception() is not None:
        return
    for claim, answer in zip(claims, done.result(), strict=True):
        if isinstance(answer, Claimed):
            table.give_back(claim.key, answer.fence)


def _start(
    opening: Opening,
    restored: Restored | None,
    claim: Claimed | ServingError | None,
    table: SeriesTable,
    signer: CheckpointSigner,
) -> Opened | ServingError:
    try:
        if isinstance(claim, ServingError):
            raise claim
        if table.journal is None:
            return table.start(opening, restored)
        if claim is None:
            claim = _without_store(opening, restored, table)
        here = table.kept_fence(opening.key)
        if restored is None and not opening.reset and (here is None or claim.before > here):
            # Elsewhere it went further than here, or it ended.
            opening = opening._replace(reset=True) if here is not None else opening
            if claim.value:
                restored = _open_stored(claim.value, opening, table, signer)
        return table.start(opening, restored, claim.fence)
    except ServingError as error:
        if isinstance(claim, Claimed):
            table.give_back(opening.key, claim.fence)
        return error


def _without_store(opening: Opening, restored: Restored | None, table: SeriesTable) -> Claimed:
    """What is known of a series while the store is gone.

    Raises:
        UnavailableError: Nothing: the store may have it.
    """
    here = table.kept_fence(opening.key)
    left = table.journal.waiting(table.name_of(opening.key)) if table.journal else None
    if here is not None:
        return Claimed(here, here, b"")
    if left is not None:
        return Claimed(left.fence, left.fence, left.value)
    if restored is not None or opening.reset:
        # It is claimed when the store is back.
        return Claimed(0, 0, b"")
    raise UnavailableError(
        f"series {opening.key!r}: the state store cannot be reached and may hold its state: try "
        "again, or start it with a checkpoint or a reset"
    )
