"""The states of all live series of a model, in one array for each state tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.spec import StateLayout

_FIRST_SIZE = 64


class Slots:
    """Arrays [layers, slots, width], grown by doubling and reused.

    Slot numbers stay valid while the arrays grow.

    Args:
        layouts: The states of the model.
        limit: Largest number of slots.
    """

    def __init__(self, layouts: Sequence[StateLayout], limit: int) -> None:
        self._layouts = tuple(layouts)
        self._limit = limit
        self.size = min(_FIRST_SIZE, limit)
        self._arrays = [_empty(layout, self.size) for layout in self._layouts]
        self._free = list(range(self.size - 1, -1, -1))

    @property
    def used(self) -> int:
        """Slots that hold a live series."""
        return self.size - len(self._free)

    @property
    def full(self) -> bool:
        """Whether every slot that there may be is taken."""
        return not self._free and self.size >= self._limit

    def acquire(self) -> int:
        """Takes a free slot and sets it to the initial values.

        Raises:
            ResourceExhaustedError: All slots are taken.
        """
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self.reset(slot)
        return slot

    def reset(self, slot: int) -> None:
        """Sets a slot to the initial values."""
        for layout, array in zip(self._layouts, self._arrays, strict=True):
            array[:, slot] = layout.initial_value

    def release(self, slot: int) -> None:
        """Gives a slot back; its next owner starts from the initial values."""
        self._free.append(slot)

    def gather(self, slots: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """The states of some slots, by the name of the graph's input: [layers, batch, width]."""
        return {
            layout.input: array.take(slots, axis=1)
            for layout, array in zip(self._layouts, self._arrays, strict=True)
        }

    def scatter(self, slots: NDArray[np.int64], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Stores the next states of some slots, from the graph's outputs."""
        for layout, array in zip(self._layouts, self._arrays, strict=True):
            array[:, slots] = outputs[layout.output]

    def read(self, slot: int) -> list[bytes]:
        """The states of one slot as little-endian float32 [layers, width]."""
        return [array[:, slot].astype("<f4").tobytes() for array in self._arrays]

    def write(self, slot: int, states: Sequence[bytes]) -> None:
        """Sets the states of one slot from what `read` returned."""
        for layout, array, state in zip(self._layouts, self._arrays, states, strict=True):
            array[:, slot] = np.frombuffer(state, "<f4").reshape(layout.layers, layout.width)

    def _grow(self) -> None:
        if self.size >= self._limit:
            raise ResourceExhaustedError(
                f"all {self._limit} series of this model are taken (--max-series): "
                "finish some, or use another replica",
                retry_seconds=1.0,
            )
        size = min(2 * self.size, self._limit)
        for i, layout in enumerate(self._layouts):
            grown = _empty(layout, size)
            grown[:, : self.size] = self._arrays[i]
            self._arrays[i] = grown
        self._free = list(range(size - 1, self.size - 1, -1))
        self.size = size


def _empty(layout: StateLayout, size: int) -> NDArray[np.float32]:
    # Memory that was never written costs nothing yet; `acquire` writes it.
    return np.empty((layout.layers, size, layout.width), np.float32)
