"""A whole training run, step by step: load, build, fit, evaluate, export, register.

:func:`run` is these steps in their order; each can be called by itself.
"""

from tidegate.train.job.exporting import export
from tidegate.train.job.job import Result, Summary, assist, run, take_part, track
from tidegate.train.job.scoring import evaluate, report, score
from tidegate.train.job.training import begin_with_vectors, build_compute, build_optimization, train

__all__ = [
    "Result",
    "Summary",
    "assist",
    "begin_with_vectors",
    "build_compute",
    "build_optimization",
    "evaluate",
    "export",
    "report",
    "run",
    "score",
    "take_part",
    "track",
    "train",
]
