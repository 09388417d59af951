"""``[tracking]``: where MLflow keeps the run."""

from pydantic import Field

from tidegate.train.config.section import Section


class TrackingConfig(Section):
    """``[tracking]``: where MLflow keeps the run."""

    uri: str = "sqlite:///.tidegate/mlflow.db"
    experiment: str = "tidegate"
    registered_model: str | None = Field(default=None, description="None: the run's name.")
    picture_every: int = Field(default=5, ge=1, description="Epochs between two pictures.")
    system_metrics: bool = Field(
        default=True,
        description="Those of the machine: processors, memory, disk, network and NVIDIA GPUs, "
        "every MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL seconds (10).",
    )
