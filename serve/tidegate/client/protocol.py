"""The client's side of a forecast stream, without I/O.

Legend: F features, A forecasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tidegate.client.conversation import Conversation
from tidegate.client.messages import features_of, rows_as_sent
from tidegate.client.resuming import Resuming
from tidegate.client.steps import Request
from tidegate.client.superseding import replay_history
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from tidegate.client.errors import ClientError
    from tidegate.client.series import Series
    from tidegate.client.steps import Steps
    from tidegate.client.targets import Targets
    from tidegate.v1 import model_spec_pb2


class Answer(NamedTuple):
    """The answer to one message: forecasts by series, and what was refused."""

    forecasts: dict[str, NDArray[np.float32]]
    errors: list[ClientError]


class Protocol:
    """What can be done with live series; each operation is a generator of steps.

    Args:
        model: Which model.
        targets: The servers.
        checkpoint_every: Observations between checkpoints; 0: nothing is resumed.
        every_step: Whether each row is answered.
        history: Rows of each series to keep for a restart on another version.
        on_superseded: Says what another version reads first; None: there is no restart.
    """

    def __init__(
        self,
        model: pb.ModelReference,
        targets: Targets,
        *,
        checkpoint_every: int,
        every_step: bool,
        history: int = 0,
        on_superseded: Callable[[Any], Any] | None = replay_history,
    ) -> None:
        self._can_resume = checkpoint_every > 0
        self._conversation = Conversation(
            model, checkpoint_every=checkpoint_every, every_step=every_step, history=history
        )
        self._resuming = Resuming(
            self._conversation,
            targets,
            can_resume=self._can_resume,
            on_superseded=on_superseded,
        )

    @property
    def model(self) -> str:
        """Name and version of the model that runs: "name/version"."""
        return self._conversation.model

    @property
    def spec(self) -> model_spec_pb2.ForecastSpec:
        """What it says about its forecasts."""
        return self._conversation.spec

    @property
    def series(self) -> Mapping[str, Series]:
        """Live series by key."""
        return self._conversation.series

    @property
    def dropped(self) -> Mapping[str, int]:
        """Series whose kept state a server had to drop, and where they were."""
        return self._conversation.dropped

    def find(self, key: str) -> Series:
        """A live series; see `Conversation.find`."""
        return self._conversation.find(key)

    def open(
        self,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool = False,
        reset: bool = False,
    ) -> Steps[None]:
        """Starts series on the first server that takes them."""
        return self._resuming.open(lambda: self._start(series, take_over=take_over, reset=reset))

    def start(
        self,
        series: Iterable[str] | Mapping[str, bytes],
        *,
        take_over: bool = False,
        reset: bool = False,
    ) -> Steps[None]:
        """Starts more series; raises for the first that is refused, the others are started."""
        return self._resuming.run(lambda: self._start(series, take_over=take_over, reset=reset))

    def exchange(self, chunks: Mapping[str, ArrayLike]) -> Steps[Answer]:
        """Sends a chunk for each of some series, and collects what they are answered."""
        todo = {
            key: rows_as_sent(key, rows, features_of(self.spec)) for key, rows in chunks.items()
        }
        for key in todo:
            self.find(key)
        answer = Answer({}, [])
        yield from self._resuming.run(lambda: self._exchange(todo, answer))
        return answer

    def checkpoint(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """Asks for tokens of some series."""

        def ask() -> Steps[dict[str, bytes]]:
            series = [self.find(key) for key in keys]
            yield from self._conversation.checkpoint(series)
            return {one.key: one.token for one in series}

        return (yield from self._resuming.run(ask)) if keys else {}

    def finish(self, keys: Sequence[str]) -> Steps[None]:
        """Frees series on the server."""

        def ask() -> Steps[None]:
            yield from self._conversation.finish([self.find(key) for key in keys])

        return self._resuming.run(ask)

    def farewell(self, *, keep: bool) -> list[Request]:
        """The last messages of the stream, for an open call."""
        if keep or not self._resuming.is_connected or not self.series:
            return []
        return [Request(finish=pb.Finish())]

    def _start(
        self, series: Iterable[str] | Mapping[str, bytes], *, take_over: bool, reset: bool
    ) -> Steps[None]:
        if isinstance(series, str):
            # A string is iterable too, but nobody means its letters.
            series = [series]
        tokens = series if isinstance(series, Mapping) else dict.fromkeys(series, b"")
        starts = [
            pb.SeriesStart(key=key, checkpoint=token, take_over=take_over, reset=reset)
            for key, token in tokens.items()
        ]
        live = self._conversation.series
        errors = yield from self._conversation.start(starts)
        # They went on from a state that only this server has.
        blind = [
            live[key]
            for key in tokens
            if key in live and live[key].next_offset and not live[key].token
        ]
        if blind and self._can_resume:
            yield from self._conversation.checkpoint(blind)
        for error in errors:
            raise error

    def _exchange(self, todo: dict[str, NDArray[np.float32]], answer: Answer) -> Steps[None]:
        """Removes from `todo` what is answered; may be called again for the rest."""

        def answered(series: Series, forecasts: NDArray[np.float32]) -> None:
            series.answered(todo.pop(series.key), keep=self._can_resume)
            answer.forecasts[series.key] = forecasts

        def refused(error: ClientError) -> None:
            answer.errors.append(error)
            todo.pop(error.series, None)

        refusals = self._conversation.refused
        for key in [key for key in todo if key in refusals]:
            refused(refusals.pop(key))
        if not todo:
            return
        series = [self.series[key] for key in todo]
        chunks = {one: (one.next_offset, todo[one.key]) for one in series}
        yield from self._conversation.observe(chunks, answered, refused)
