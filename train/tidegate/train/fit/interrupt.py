"""SIGINT during training: finish the step, save, and end."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class Interrupted(KeyboardInterrupt):
    """Training was stopped by SIGINT and can be resumed.

    Attributes:
        epoch: that was under way.
        step: steps of it that are done.
    """

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"stopped in epoch {epoch} after step {step}")
        self.epoch = epoch
        self.step = step

    def __reduce__(self) -> tuple[type[Self], tuple[int, int]]:
        return type(self), (self.epoch, self.step)


class Interruption:
    """Takes the first SIGINT as a request; the second has its usual effect.

    Signals reach only the main thread; in any other, nothing changes.

    Args:
        is_patient: whether later ones are the same request. Processes that torchrun
            started get one from the terminal and one from torchrun.
        on_request: called at the first one.
    """

    def __init__(
        self, *, is_patient: bool = False, on_request: Callable[[], object] | None = None
    ) -> None:
        self.requested = False
        self._on_request = on_request
        self._is_patient = is_patient

    def __enter__(self) -> Self:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGINT, self._previous)

    def _request(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature is Python's
        if self._on_request and not self.requested:
            self._on_request()
        self.requested = True
        if not self._is_patient:
            signal.signal(signal.SIGINT, self._previous)
