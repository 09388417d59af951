"""Ray's cluster: one of this machine's own, or the one that RAY_ADDRESS names."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import ray

from tidegate.train.config import Config


@contextmanager
def connect(config: Config) -> Iterator[dict[str, float]]:
    """Connects to the cluster, or starts one for the block.

    Args:
        config: of the run.

    Yields:
        What each worker is to have: ``{"CPU": ..., "GPU": ...}``.

    Raises:
        ValueError: a cluster of this machine alone has less than the workers need.
    """
    is_own = os.environ.get("RAY_ADDRESS", "local") == "local"
    if is_own:
        ray.init("local", include_dashboard=False, logging_level=logging.WARNING)
    else:
        ray.init(logging_level=logging.WARNING)
    try:
        needed = {"CPU": config.ray.cpus_per_worker, "GPU": float(_takes_gpu(config))}
        if is_own:
            _check_enough(config.ray.workers, needed)
        yield needed
    finally:
        ray.shutdown()


def backend(needed: dict[str, float]) -> Literal["nccl", "gloo"]:
    """How the workers talk."""
    return "nccl" if needed["GPU"] else "gloo"


def _takes_gpu(config: Config) -> bool:
    device = config.training.device
    return device == "cuda" or (device == "auto" and _resources().get("GPU", 0) > 0)


def _check_enough(workers: int, needed: dict[str, float]) -> None:
    for name, share in needed.items():
        there = _resources().get(name, 0)
        if workers * share > there:
            raise ValueError(
                f"ray.workers = {workers} with {share:g} {name} each, and this machine has "
                f"{there:g}; lower ray.workers or ray.cpus_per_worker, or set RAY_ADDRESS to a "
                "larger cluster"
            )


def _resources() -> dict[str, float]:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call] # Ray's own
    return resources
