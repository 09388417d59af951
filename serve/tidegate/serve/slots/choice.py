"""Which slots a model gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.serve.session import CUDA
from tidegate.serve.slots.device import DeviceSlots
from tidegate.serve.slots.host import HostSlots

if TYPE_CHECKING:
    from tidegate.serve.model import Model
    from tidegate.serve.slots.base import Slots


def slots_of(model: Model, limit: int) -> Slots:
    """Slots where the model runs: copies between host and device would cost more than the run.

    On the CPU both are the same memory, and NumPy moves rows faster than a graph does.
    """
    if model.session.provider == CUDA:
        return DeviceSlots(model.states, limit, CUDA)
    return HostSlots(model.states, limit)
