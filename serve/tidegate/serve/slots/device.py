"""States in the memory of the device that the network runs on.

Legend: L layers, S slots, B series in one run, K series that are read or written, H width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.binding import DeviceState
from tidegate.serve.session import CUDA, Session
from tidegate.serve.slots.base import Slots
from tidegate.serve.slots.graphs import gather_graph, residue_graph, scatter_graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.binding import DeviceTensor
    from tidegate.serve.settings import Provider
    from tidegate.serve.spec import StateLayout


class DeviceSlots(Slots):
    """Tensors [layers, slots, width] that graphs of ONNX Runtime gather from and scatter to.

    To the host come a number for each series of a run, which says whether its
    states are finite, and the states that are read. What is set from the host
    waits for the next of these runs, and goes up with all else that waits.

    Args:
        layouts: See `Slots`.
        limit: See `Slots`.
        provider: Execution provider that the network runs on.

    Raises:
        LoadError: ONNX Runtime does not run the graphs there.
    """

    def __init__(self, layouts: Sequence[StateLayout], limit: int, provider: str) -> None:
        super().__init__(layouts, limit)
        where: Provider = "cuda" if provider == CUDA else "cpu"
        self._gather = Session(gather_graph(self._layouts), where)
        self._scatter = Session(scatter_graph(self._layouts), where)
        self._residue = Session(residue_graph(self._checked), where) if self._checked else None
        self._arrays = [self._empty(layout, self.size) for layout in self._layouts]
        self._initial = [
            np.full((layout.layers, layout.width), layout.initial_value, layout.dtype)
            for layout in self._layouts
        ]
        self._waiting: dict[int, Sequence[NDArray[Any]]] = {}

    def reset(self, slot: int) -> None:
        """See `Slots`."""
        self._set(slot, self._initial)

    def gather(self, slots: NDArray[np.int64]) -> dict[str, DeviceState]:
        """See `Slots`."""
        self._write_waiting()
        rows = self._rows(self._arrays, slots)
        return {
            layout.input: DeviceState(tensor, layout.output)
            for layout, tensor in zip(self._layouts, rows, strict=True)
        }

    def finite(self, outputs: Mapping[str, Any]) -> NDArray[np.bool_]:
        """See `Slots`."""
        if self._residue is None:
            return np.ones(outputs[self._layouts[0].output].shape[1], np.bool_)
        states = (outputs[layout.output] for layout in self._checked)
        residues = self._residue.run_bound(_numbered("rows", states), {})
        finite: NDArray[np.bool_] = np.all([one == 0 for one in residues.values()], axis=0)
        return finite

    def scatter(
        self,
        slots: NDArray[np.int64],
        outputs: Mapping[str, Any],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """See `Slots`."""
        # In the order of the calls, as if nothing waited.
        self._write_waiting()
        states = [outputs[layout.output] for layout in self._layouts]
        self._write(slots, states if rows is None else self._rows(states, rows))

    def read_all(self, slots: Sequence[int]) -> list[list[bytes]]:
        """See `Slots`."""
        if not slots:
            return []
        self._write_waiting()
        tensors = self._rows(self._arrays, np.array(slots, np.int64))
        arrays = [
            tensor.numpy().astype(layout.stored_dtype)
            for layout, tensor in zip(self._layouts, tensors, strict=True)
        ]
        return [[array[:, i].tobytes() for array in arrays] for i in range(len(slots))]

    def _set(self, slot: int, states: Sequence[NDArray[Any]]) -> None:
        self._waiting[slot] = states

    def _grow(self, size: int) -> None:
        old, kept = self._arrays, np.arange(self.size)
        self._arrays = [self._empty(layout, size) for layout in self._layouts]
        self._write(kept, old)

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        slots = np.array(list(self._waiting), np.int64)
        rows = [np.stack(states, axis=1) for states in zip(*self._waiting.values(), strict=True)]
        self._write(slots, rows)
        self._waiting.clear()

    def _write(self, slots: NDArray[np.int64], rows: Sequence[NDArray[Any] | DeviceTensor]) -> None:
        """Puts rows [L, K, H] of each state into slots [K] of the arrays."""
        places = (_places(layout.layers, slots) for layout in self._layouts)
        feeds = _numbered("array", self._arrays) | _numbered("rows", rows)
        feeds |= _numbered("places", places)
        self._scatter.run_bound(feeds, _numbered("changed", self._arrays))

    def _rows(self, arrays: Sequence[DeviceTensor], slots: NDArray[np.int64]) -> list[DeviceTensor]:
        """Rows [L, K, H] of each of some arrays [L, S, H]."""
        feeds: dict[str, Any] = {"slots": slots} | _numbered("array", arrays)
        outputs = self._gather.run_bound(feeds, _numbered("rows", [None] * len(arrays)))
        return list(outputs.values())

    def _empty(self, layout: StateLayout, size: int) -> DeviceTensor:
        return self._scatter.empty((layout.layers, size, layout.width), layout.dtype)


def _places(layers: int, slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """The layer and slot of each row, int64 [L, K, 2]."""
    places = np.empty((layers, len(slots), 2), np.int64)
    places[..., 0] = np.arange(layers)[:, None]
    places[..., 1] = slots
    return places


def _numbered(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """The values of all states under their names in the graphs."""
    return {f"{name}_{i}": value for i, value in enumerate(values)}
