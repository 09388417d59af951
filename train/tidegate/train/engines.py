"""Who runs the training loop: this process, or several that torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import distributed

from tidegate.train.config import Config
from tidegate.train.fit import Processes, ProcessGroup, choose_device

EngineName = Literal["local", "torchrun"]
ENGINES = ("local", "torchrun")

_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def find_engine(name: EngineName | None) -> EngineName:
    """The engine by its name; None: torchrun's, if it started this process, else local.

    Raises:
        ValueError: torchrun is asked for and did not start this process.
    """
    missing = [variable for variable in _OF_TORCHRUN if variable not in os.environ]
    if name is None:
        return "local" if missing else "torchrun"
    if name == "torchrun" and missing:
        raise ValueError(
            f"--engine torchrun, and {missing[0]} is not in the environment: torchrun did not "
            "start this process; use torchrun --nproc-per-node 2 -m tidegate.train fit CONFIG"
        )
    return name


@contextmanager
def processes_of(engine: EngineName, config: Config) -> Iterator[Processes]:
    """The processes that train together, while the block lasts.

    Args:
        engine: from :func:`find_engine`.
        config: of the run; its device tells how they talk, by NCCL or Gloo.

    Raises:
        ValueError: there is no such device.
    """
    if engine == "local":
        yield Processes()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    device = choose_device(config.training.device, local_rank)
    is_cuda = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if is_cuda else "gloo", device_id=device if is_cuda else None
    )
    try:
        yield ProcessGroup(device, local_rank)
    finally:
        distributed.destroy_process_group()
