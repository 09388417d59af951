"""States in host memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.slots.base import Slots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.spec import StateLayout


class HostSlots(Slots):
    """NumPy arrays [layers, slots, width]."""

    def __init__(self, layouts: Sequence[StateLayout], limit: int) -> None:
        super().__init__(layouts, limit)
        self._arrays = [_empty(layout, self.size) for layout in self._layouts]

    def reset(self, slot: int) -> None:
        """See `Slots`."""
        for layout, array in zip(self._layouts, self._arrays, strict=True):
            array[:, slot] = layout.initial_value

    def gather(self, slots: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See `Slots`."""
        return {
            layout.input: array.take(slots, axis=1)
            for layout, array in zip(self._layouts, self._arrays, strict=True)
        }

    def finite(self, outputs: Mapping[str, Any]) -> NDArray[np.bool_]:
        """See `Slots`."""
        states = [outputs[layout.output] for layout in self._checked]
        count = outputs[self._layouts[0].output].shape[1]
        finite = np.ones(count, np.bool_)
        # Almost always all of them are, and that is the quickest to see.
        for state in states:
            if not np.isfinite(state).all():
                finite &= np.isfinite(state).all(axis=(0, 2))
        return finite

    def scatter(
        self,
        slots: NDArray[np.int64],
        outputs: Mapping[str, Any],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """See `Slots`."""
        for layout, array in zip(self._layouts, self._arrays, strict=True):
            state = outputs[layout.output]
            array[:, slots] = state if rows is None else state[:, rows]

    def read_all(self, slots: Sequence[int]) -> list[list[bytes]]:
        """See `Slots`."""
        return [
            [
                array[:, slot].astype(layout.stored_dtype).tobytes()
                for layout, array in zip(self._layouts, self._arrays, strict=True)
            ]
            for slot in slots
        ]

    def _set(self, slot: int, states: Sequence[NDArray[Any]]) -> None:
        for array, state in zip(self._arrays, states, strict=True):
            array[:, slot] = state

    def _grow(self, size: int) -> None:
        for i, layout in enumerate(self._layouts):
            grown = _empty(layout, size)
            grown[:, : self.size] = self._arrays[i]
            self._arrays[i] = grown


def _empty(layout: StateLayout, size: int) -> NDArray[Any]:
    # Memory that was never written costs nothing yet; `acquire` writes it.
    return np.empty((layout.layers, size, layout.width), layout.dtype)
