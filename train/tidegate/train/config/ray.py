"""``[ray]``: the workers of ``--engine ray``."""

from pydantic import Field

from tidegate.train.config.section import Section


class RayConfig(Section):
    """``[ray]``: the workers of ``--engine ray``.

    Each has a GPU too where ``training.device`` takes one.
    """

    workers: int = Field(default=2, ge=1, description="Processes that train one model.")
    cpus_per_worker: float = Field(default=1, gt=0, description="That Ray keeps for each.")
