"""Where the states of all live series of a model are: in host memory or on the device.

| module | |
|---|---|
| `base` | what both are: numbered slots, handed out, grown and reused |
| `host` | NumPy arrays, for the CPU provider |
| `device` | tensors of ONNX Runtime beside the network, for CUDA |
| `graphs` | the graphs that move rows of those |
"""

from tidegate.serve.slots.base import Slots
from tidegate.serve.slots.choice import slots_of
from tidegate.serve.slots.device import DeviceSlots
from tidegate.serve.slots.host import HostSlots

__all__ = ["DeviceSlots", "HostSlots", "Slots", "slots_of"]
