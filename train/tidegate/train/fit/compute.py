"""Where training computes, and how precisely."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch.amp import GradScaler

from tidegate.train.arguments import check_choice

DeviceName = Literal["auto", "cpu", "cuda"]
DEVICES = ("auto", "cpu", "cuda")
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS = ("fp32", "bf16", "fp16")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device and the precision of a training step there.

    Weights, gradients and optimizer are float32 in every precision, and so are
    validation and what is exported.

    Attributes:
        device: where the model is.
        precision: "fp32"; "bf16" or "fp16": products in it, by autocast.

    Raises:
        ValueError: the precision is unknown, or "fp16" without a CUDA device.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        if self.precision == "fp16" and self.device.type != "cuda":
            raise ValueError(
                f"training.precision = 'fp16' on the device {str(self.device)!r}: its gradients "
                "are scaled on CUDA devices only; use 'bf16' or 'fp32' here"
            )

    def autocast(self) -> AbstractContextManager[object]:
        """In force where the loss is computed."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])

    def build_scaler(self) -> GradScaler:
        """Keeps small gradients of fp16 from becoming zero; does nothing in other precisions."""
        return GradScaler(self.device.type, enabled=self.precision == "fp16")

    def __str__(self) -> str:
        if self.device.type != "cuda":
            return f"{self.device}, {self.precision}"
        return f"{self.device} ({torch.cuda.get_device_name(self.device)}), {self.precision}"


def choose_device(name: DeviceName, local_rank: int = 0) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one, else the CPU.

    Args:
        name: "auto", "cpu" or "cuda".
        local_rank: of the process on its machine, which takes the device of that number.

    Raises:
        ValueError: the name is unknown, or asks for a CUDA device that is not there.
    """
    check_choice("device", name, DEVICES)
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = (
            f"torch was built for CUDA {built} and finds none"
            if built
            else (f"torch {torch.__version__} is a build without CUDA")
        )
        raise ValueError(
            f"training.device = 'cuda': {reason}; install a driver and a build of torch for CUDA, "
            "or set training.device = 'cpu'"
        )
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise ValueError(
            f"training.device = {name!r}: process {local_rank} of this machine has no CUDA device "
            f"of its own among {count}; start at most {count} processes a machine, or set "
            "training.device = 'cpu'"
        )
    return torch.device("cuda", local_rank)
