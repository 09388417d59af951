"""Tensors in device memory, and runs that leave some there (ONNX Runtime's IO binding)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnxruntime
    from numpy.typing import NDArray


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor where the network runs.

    Attributes:
        value: ONNX Runtime's own.
    """

    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(self.value.shape())

    def numpy(self) -> NDArray[Any]:
        """A copy in host memory."""
        array: NDArray[Any] = self.value.numpy()
        return array


class DeviceState(NamedTuple):
    """A state that is fed from device memory, and the output that is to stay there after it."""

    tensor: DeviceTensor
    output: str


def run_bound(
    session: onnxruntime.InferenceSession,
    device: str,
    feeds: Mapping[str, NDArray[Any] | DeviceTensor],
    outputs: Sequence[str],
    into: Mapping[str, DeviceTensor | None],
) -> dict[str, NDArray[Any] | DeviceTensor]:
    """Runs a graph on tensors that stay where they are.

    Args:
        session: ONNX Runtime's session.
        device: Its name for the device, "cpu" or "cuda".
        feeds: The graph's inputs.
        outputs: Names of the graph's outputs, in its order.
        into: Outputs that stay on the device: in a tensor that is there, which may
            be an input that the graph overwrites, or in a new one.
    """
    binding = session.io_binding()
    for name, feed in feeds.items():
        if isinstance(feed, DeviceTensor):
            binding.bind_ortvalue_input(name, feed.value)
        else:
            binding.bind_cpu_input(name, np.ascontiguousarray(feed))
    for name in outputs:
        there = into.get(name)
        if there is not None:
            binding.bind_ortvalue_output(name, there.value)
        else:
            binding.bind_output(name, device if name in into else "cpu")
    session.run_with_iobinding(binding)
    return {
        name: DeviceTensor(value) if name in into else value.numpy()
        for name, value in zip(outputs, binding.get_outputs(), strict=True)
    }
