"""The engine that a command names."""

from typing import Literal

from tidegate.train.engines.engine import Engine, Local
from tidegate.train.engines.ray_extra import check_installed
from tidegate.train.engines.torchrun import Torchrun, missing_variables

EngineName = Literal["local", "torchrun", "ray"]


def find_engine(name: EngineName | None) -> Engine:
    """The engine by its name; None: torchrun's, if it started this process, else local.

    Raises:
        ValueError: torchrun is asked for and did not start this process, or Ray is
            and is not installed.
    """
    if name is None:
        name = "local" if missing_variables() else "torchrun"
    match name:
        case "local":
            return Local()
        case "torchrun":
            return Torchrun()
        case "ray":
            check_installed()
            from tidegate.train.engines.ray_train import RayTrain

            return RayTrain()
