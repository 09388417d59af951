"""CUDA graphs of pure functions: hundreds of small kernels at the cost of one launch.

A captured graph reads and writes fixed memory, so a replay copies its arguments
in and its results out. Capturing takes a while and holds memory: only calls that
come again with the same shapes are captured, and the least recently used graph
goes first.
"""

import functools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

SWITCH_VARIABLE = "TIDEGATE_CUDA_GRAPHS"

Tensors = tuple[Tensor | None, ...]
Function = Callable[..., Tensors]


class Replayable(Protocol):
    """A function that was captured."""

    def replay(self, tensors: Sequence[Tensor | None]) -> Tensors:
        """Calls it on other values of the same shapes."""

    def close(self) -> None:
        """Waits until the device is done with it."""


class Captured:
    """A function in a CUDA graph.

    Args:
        function: of tensors, to new tensors; without a look at any value.
        tensors: its arguments.
    """

    def __init__(self, function: Function, tensors: Sequence[Tensor | None]) -> None:
        self._inputs = [None if one is None else one.clone() for one in tensors]
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch's own
        self._graph = torch.cuda.CUDAGraph()
        stream = _capture_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        # Compiles, and lets cuBLAS take its workspace: neither may happen while capturing.
        with torch.cuda.stream(stream):
            function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def replay(self, tensors: Sequence[Tensor | None]) -> Tensors:
        """Calls the function on other values, on the current stream."""
        stream = torch.cuda.current_stream()
        # An earlier replay may still be under way on another stream.
        stream.wait_event(self._done)
        for own, given in zip(self._inputs, tensors, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        self._graph.replay()
        copies = {id(one): one.clone() for one in self._outputs if one is not None}
        self._done.record(stream)
        return tuple(None if one is None else copies[id(one)] for one in self._outputs)

    def close(self) -> None:
        """Waits until the device is done with it."""
        self._done.synchronize()


class GraphCache:
    """Calls functions, and captures those that are called often.

    Args:
        capture: makes a graph of a function with its arguments.
        capacity: most graphs that are kept.
        captured_at: the call with the same shapes that is captured, from 1.
    """

    def __init__(
        self,
        capture: Callable[[Function, Sequence[Tensor | None]], Replayable] = Captured,
        *,
        capacity: int = 24,
        captured_at: int = 3,
    ) -> None:
        self._capture = capture
        self._capacity = capacity
        self._captured_at = captured_at
        self._graphs: OrderedDict[Hashable, Replayable] = OrderedDict()
        self._calls: OrderedDict[Hashable, int] = OrderedDict()
        # The backward pass comes from a thread of autograd's.
        self._lock = threading.Lock()

    def run(self, key: Hashable, function: Function, tensors: Sequence[Tensor | None]) -> Tensors:
        """The function's results.

        Args:
            key: of the function.
            function: of tensors, to new tensors; without a look at any value.
            tensors: its arguments, contiguous.
        """
        described = tuple(None if one is None else _described(one) for one in tensors)
        key = (key, described, torch.get_float32_matmul_precision())
        with self._lock:
            graph = self._graphs.pop(key, None)
            if graph is None and self._is_due(key):
                self._make_room()
                graph = self._capture(function, tensors)
            if graph is None:
                return function(*tensors)
            self._graphs[key] = graph
            return graph.replay(tensors)

    def _is_due(self, key: Hashable) -> bool:
        calls = self._calls.pop(key, 0) + 1
        if calls >= self._captured_at:
            return True
        self._calls[key] = calls
        # Shapes that rarely come again, such as those of sentences, are forgotten.
        if len(self._calls) > 2 * self._capacity:
            self._calls.popitem(last=False)
        return False

    def _make_room(self) -> None:
        while len(self._graphs) >= self._capacity:
            _, oldest = self._graphs.popitem(last=False)
            oldest.close()


def may_capture(device: torch.device) -> bool:
    """Whether calls on a device may be captured; ``TIDEGATE_CUDA_GRAPHS=0`` says no.

    Within another capture they become a part of that one.
    """
    if device.type != "cuda" or os.environ.get(SWITCH_VARIABLE) == "0":
        return False
    return not torch.cuda.is_current_stream_capturing()


@functools.cache
def _capture_stream(device: int) -> torch.cuda.Stream:
    """One for all captures, since memory that a stream freed is its own to take again."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's own


def _described(tensor: Tensor) -> Hashable:
    return tuple(tensor.shape), tensor.dtype, tensor.device
