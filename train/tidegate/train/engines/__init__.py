"""Who runs a training: this process, those that torchrun started, or Ray's workers."""

from tidegate.train.engines.choice import ENGINES, EngineName, find_engine
from tidegate.train.engines.engine import Engine, Local

__all__ = ["ENGINES", "Engine", "EngineName", "Local", "find_engine"]
