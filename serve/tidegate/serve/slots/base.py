"""What slots are, wherever their memory is.

Legend: L layers, B series in one run, K series that are read or written, H width of a state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tidegate.serve.binding import DeviceState, DeviceTensor
    from tidegate.serve.spec import StateLayout

_FIRST_SIZE = 64


class Slots(ABC):
    """The states of all live series of a model, in one array [layers, slots, width] for each.

    The arrays grow by doubling. Slot numbers stay valid while they do, and are
    reused. All methods are called on one thread.

    Attributes:
        size: Slots that there is memory for.

    Args:
        layouts: The states of the model.
        limit: Largest number of slots.
    """

    def __init__(self, layouts: Sequence[StateLayout], limit: int) -> None:
        self._layouts = tuple(layouts)
        self._limit = limit
        self.size = min(_FIRST_SIZE, limit)
        self._free = list(range(self.size - 1, -1, -1))
        # A state that starts as NaN may stay so: nothing was observed yet.
        self._checked = [one for one in self._layouts if np.isfinite(one.initial_value)]

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
            self._double()
        slot = self._free.pop()
        self.reset(slot)
        return slot

    def release(self, slot: int) -> None:
        """Gives a slot back; its next owner starts from the initial values."""
        self._free.append(slot)

    def read(self, slot: int) -> list[bytes]:
        """The states of one slot; see `read_all`."""
        return self.read_all([slot])[0]

    def write(self, slot: int, states: Sequence[bytes]) -> None:
        """Sets the states of one slot from what `read` returned."""
        self._set(
            slot,
            [
                np.frombuffer(state, layout.stored_dtype).reshape(layout.layers, layout.width)
                for layout, state in zip(self._layouts, states, strict=True)
            ],
        )

    @abstractmethod
    def reset(self, slot: int) -> None:
        """Sets a slot to the initial values."""

    @abstractmethod
    def gather(self, slots: NDArray[np.int64]) -> Mapping[str, NDArray[Any] | DeviceState]:
        """The states of some slots, as the network is fed with them, by the input's name.

        Args:
            slots: int64 [B]; the states are [L, B, H].
        """

    @abstractmethod
    def finite(self, outputs: Mapping[str, NDArray[Any] | DeviceTensor]) -> NDArray[np.bool_]:
        """Whether the next states of each series are finite, [B], from the network's outputs.

        States that do not start finite are not looked at.
        """

    @abstractmethod
    def scatter(
        self,
        slots: NDArray[np.int64],
        outputs: Mapping[str, NDArray[Any] | DeviceTensor],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Stores next states, from the network's outputs.

        Args:
            slots: Where they go, int64 [K], none of them twice.
            outputs: By name; states are [L, B, H].
            rows: Which of the B they are, int64 [K]; None: all, in their order.
        """

    @abstractmethod
    def read_all(self, slots: Sequence[int]) -> list[list[bytes]]:
        """The states of each slot, little-endian [L, H] in the state's own type."""

    @abstractmethod
    def _set(self, slot: int, states: Sequence[NDArray[Any]]) -> None:
        """Sets the states of one slot, each [L, H]."""

    @abstractmethod
    def _grow(self, size: int) -> None:
        """Makes room for so many slots, which need not be set; `size` is still the old one."""

    def _double(self) -> None:
        if self.size >= self._limit:
            raise ResourceExhaustedError(
                f"all {self._limit} series of this model are taken (--max-series): "
                "finish some, or use another replica",
                retry_seconds=1.0,
            )
        size = min(2 * self.size, self._limit)
        self._grow(size)
        self._free = list(range(size - 1, self.size - 1, -1))
        self.size = size
