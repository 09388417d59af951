"""The kernels that a wheel brings, one library for each kind of processor.

Needs torch and nothing else of ours: the wheel's build reads this file alone.
"""

import platform
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "prebuilt"


def name_of(capability: str) -> str:
    """The file's name: of all that must be the same where it is built and where it runs."""
    parts = (f"torch-{torch.__version__}", sys.platform, platform.machine(), capability.lower())
    return "-".join(parts) + ".so"


def find() -> Path | None:
    """The library for this torch, platform and processor, if the wheel brought one."""
    library = FOLDER / name_of(torch.backends.cpu.get_cpu_capability())
    if not library.exists():
        # Torch names kinds of processors for which no library of their own is made.
        library = FOLDER / name_of("DEFAULT")
    return library if library.exists() else None
