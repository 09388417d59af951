"""Training in the processes that torchrun started, of which this is one."""

import os
from pathlib import Path

from torch import distributed

from tidegate.train import job
from tidegate.train.config import Config
from tidegate.train.fit import ProcessGroup, choose_device

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def missing_variables() -> list[str]:
    """What torchrun would have put into the environment, and is not there."""
    return [variable for variable in _VARIABLES if variable not in os.environ]


class Torchrun:
    """The processes that torchrun started.

    Raises:
        ValueError: it did not start this one.
    """

    def __init__(self) -> None:
        missing = missing_variables()
        if missing:
            raise ValueError(
                f"--engine torchrun, and {missing[0]} is not in the environment: torchrun did not "
                "start this process; use torchrun --nproc-per-node 2 -m tidegate.train fit CONFIG"
            )
        self.is_first = int(os.environ["RANK"]) == 0

    def fit(self, config: Config, output: Path, *, resume: bool) -> job.Summary | None:
        """Does what :meth:`tidegate.train.engines.Engine.fit` says."""
        local_rank = int(os.environ["LOCAL_RANK"])
        device = choose_device(config.training.device, local_rank)
        is_cuda = device.type == "cuda"
        distributed.init_process_group(
            "nccl" if is_cuda else "gloo", device_id=device if is_cuda else None
        )
        try:
            processes = ProcessGroup(device, local_rank)
            return job.take_part(config, output, resume=resume, processes=processes)
        finally:
            distributed.destroy_process_group()
