"""Writes states to the store behind the batches, the latest of each series."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tidegate.serve.errors import AbortedError, UnavailableError
from tidegate.serve.store.records import Claim, Claimed, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tidegate.serve.errors import ServingError
    from tidegate.serve.store.redis_store import RedisStore
    from tidegate.serve.streams import SeriesTable

logger = logging.getLogger(__name__)

# Series in one round trip: sealing more would hold up the event loop for a millisecond.
_CHUNK = 64
_BEAT_SECONDS = 3.0
# A replica that has not been heard of for so long holds nothing any more.
_LIFE_SECONDS = 10.0
_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0


@dataclass
class StoreStatus:
    """What is to be seen of the store from outside.

    Attributes:
        available: Whether it answered last time.
        written: Values stored.
        refused: Writes of series that another replica has taken.
        failures: Round trips that failed.
        forgotten: Values that were given up because too many were waiting.
        behind_since: Time of the event loop since which something waits to be
            written; None when all is stored.
    """

    available: bool = True
    written: int = 0
    refused: int = 0
    failures: int = 0
    forgotten: int = 0
    behind_since: float | None = None


class _Row(NamedTuple):
    """A row of a table and the series that was in it."""

    table: SeriesTable
    handle: int
    write: Write


class WriteBehind:
    """Keeps the store up to date with some tables, whenever it can be reached.

    Of each series only the latest state waits to be written: in its row, or
    once that is freed, in a queue of at most `limit` values.

    Attributes:
        status: For health and metrics.

    Args:
        store: Where to write.
        limit: Series without a row that may wait.
        on_available: Is told when the store goes and when it is back.
    """

    def __init__(
        self, store: RedisStore, limit: int, on_available: Callable[[bool], None] = lambda _: None
    ) -> None:
        self.status = StoreStatus()
        self._store = store
        self._limit = limit
        self._on_available = on_available
        self._tables: list[SeriesTable] = []
        self._left: OrderedDict[str, Write] = OrderedDict()
        self._void: set[str] = set()
        self._wake = asyncio.Event()
        self._level = asyncio.Event()
        self._level.set()
        self._next_beat = 0.0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def attach(self, table: SeriesTable) -> None:
        """Writes the states of a table from now on."""
        self._tables.append(table)
        table.journal = self

    def detach(self, table: SeriesTable) -> None:
        """Takes what a table still has to write, and forgets it."""
        self._tables.remove(table)
        for write in table.writes_of(table.changed_handles()):
            self.leave(write)

    def start(self) -> None:
        """Begins to write, on the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Ends without writing what waits; see `flush`."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            # redis-py may swallow this, and the flag not be seen in time.
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._store.leave()
        except UnavailableError:
            # It will find out by itself.
            logger.warning("the state store was not told of the end")
        await self._store.close()

    async def flush(self) -> None:
        """Waits until everything so far is stored."""
        await self._level.wait()

    def changed(self) -> None:
        """Takes note that rows are to be written."""
        if self._level.is_set():
            self._level.clear()
            self.status.behind_since = asyncio.get_running_loop().time()
        self._wake.set()

    def leave(self, write: Write) -> None:
        """Writes the last state of a series whose row is freed."""
        self._left[write.name] = write
        self._left.move_to_end(write.name)
        if len(self._left) > self._limit:
            self._left.popitem(last=False)
            self.status.forgotten += 1
        self.changed()

    def release(self, names: Sequence[str]) -> None:
        """Gives up claims that led to nothing."""
        self._void.update(names)
        self.changed()

    def waiting(self, name: str) -> Write | None:
        """What `leave` was given for a series and is not stored yet."""
        return self._left.get(name)

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | ServingError]:
        """See `RedisStore.claim`; what waits to be written counts as stored."""
        answers = []
        for start in range(0, len(claims), _CHUNK):
            answers += await self._store.claim(claims[start : start + _CHUNK])
        return [self._latest(*pair) for pair in zip(claims, answers, strict=True)]

    def _latest(self, claim: Claim, answer: Claimed | ServingError) -> Claimed | ServingError:
        self._void.discard(claim.name)
        left = self._left.pop(claim.name, None) if isinstance(answer, Claimed) else None
        if isinstance(answer, Claimed) and left is not None and left.fence >= answer.before:
            return answer._replace(value=left.value)
        return answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_DELAY
        while not self._stopping:
            self._wake.clear()
            try:
                await self._beat(loop.time())
                await self._write_all()
            except UnavailableError as error:
                self.status.failures += 1
                self._set_available(available=False, reason=str(error.__cause__))
                self._next_beat = 0.0
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
                continue
            delay = _FIRST_DELAY
            self._set_available(available=True)
            await self._wait_for_work()

    async def _wait_for_work(self) -> None:
        """Until something is to be written, or a sign of life is due."""
        if self._stopping:
            return
        try:
            async with asyncio.timeout_at(self._next_beat):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _beat(self, now: float) -> None:
        if now < self._next_beat:
            return
        if not await self._store.beat(_LIFE_SECONDS):
            # It is new to us, was away for long, or has lost its data.
            for table in self._tables:
                table.mark_all_changed()
        self._next_beat = now + _BEAT_SECONDS

    def _set_available(self, *, available: bool, reason: str = "") -> None:
        if available == self.status.available:
            return
        self.status.available = available
        if available:
            logger.info("the state store is back")
        else:
            logger.warning("the state store is gone", extra={"reason": reason})
        self._on_available(available)

    async def _write_all(self) -> None:
        while not self._stopping and self._is_behind():
            await self._write_void()
            await self._write_left()
            # All that is changed by now, before what changes meanwhile.
            for table, handles in self._changed_rows():
                await self._write_rows(table, handles)
        if not self._is_behind():
            self._level.set()
            self.status.behind_since = None

    def _is_behind(self) -> bool:
        rows = any(table.dirty.any() for table in self._tables)
        return rows or bool(self._void or self._left)

    async def _write_void(self) -> None:
        if self._void:
            names = list(self._void)
            await self._store.release(names)
            self._void.difference_update(names)

    async def _write_left(self) -> None:
        while self._left:
            writes = list(self._left.values())[:_CHUNK]
            await self._write(writes)
            for write in writes:
                if self._left.get(write.name) is write:
                    del self._left[write.name]

    def _changed_rows(self) -> Iterator[tuple[SeriesTable, list[int]]]:
        for table in self._tables:
            handles = table.changed_handles()
            for start in range(0, len(handles), _CHUNK):
                yield table, handles[start : start + _CHUNK]

    async def _write_rows(self, table: SeriesTable, handles: Sequence[int]) -> None:
        writes = table.writes_of(handles)
        rows = [_Row(table, *one) for one in zip(handles, writes, strict=True)]
        table.dirty[handles] = False
        try:
            rows = await self._with_fences(rows)
            stored = await self._write([row.write for row in rows])
        except UnavailableError:
            for row in rows:
                if _is_there(row):
                    table.dirty[row.handle] = True
            raise
        for row, well in zip(rows, stored, strict=True):
            if not well:
                self._lose(row)

    async def _with_fences(self, rows: list[_Row]) -> list[_Row]:
        """Claims the series that were started while the store was gone."""
        new = [row for row in rows if not row.write.fence]
        if not new:
            return rows
        claims = [
            Claim(row.write.name, row.table.key(row.handle), row.write.identity, take_over=True)
            for row in new
        ]
        fenced = [row for row in rows if row.write.fence]
        for row, answer in zip(new, await self._store.claim(claims), strict=True):
            if not _is_there(row):
                continue
            if isinstance(answer, Claimed):
                row.table.fence[row.handle] = answer.fence
                fenced.append(row._replace(write=row.write._replace(fence=answer.fence)))
            else:
                row.table.lose(row.handle, answer)
        return fenced

    async def _write(self, writes: Sequence[Write]) -> list[bool]:
        stored = await self._store.write(writes) if writes else []
        self.status.written += sum(stored)
        self.status.refused += len(stored) - sum(stored)
        return stored

    def _lose(self, row: _Row) -> None:
        if _is_there(row):
            key = row.table.key(row.handle)
            row.table.lose(
                row.handle,
                AbortedError(
                    f"series {key!r} of {row.table.model.label} was taken over on another server: "
                    "go on there, or start it here again with take_over"
                ),
            )


def _is_there(row: _Row) -> bool:
    """Whether the row still holds that series, by that claim."""
    table, handle, write = row
    return table.name(handle) == write.name and int(table.fence[handle]) == write.fence
