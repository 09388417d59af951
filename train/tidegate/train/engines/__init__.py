"""Who runs a training: this process, those that torchrun started, or Ray's workers."""

from tidegate.train.engines.choice import find_engine
from tidegate.train.engines.engine import Engine, Local

__all__ = ["Engine", "Local", "find_engine"]
