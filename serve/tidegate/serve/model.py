"""A model that is loaded and ready to run."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.errors import FailedPreconditionError, LoadError
from tidegate.serve.loading import load_content
from tidegate.serve.spec import StateLayout, spec_digest
from tidegate.serve.stats import ModelStats
from tidegate.v1 import model_spec_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tidegate.serve.session import Session
    from tidegate.serve.settings import Settings
    from tidegate.serve.trial import Trial

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Model:
    """One version of a model, loaded, checked and warmed up.

    Attributes:
        name: The model's name.
        version: Its version, an integer as text.
        sha256: Hexadecimal digest of the ONNX file.
        size: Bytes of the ONNX file.
        session: The loaded graph.
        spec: What the file says about itself.
        digest: SHA-256 of the spec's JSON; checkpoints are bound to it.
        states: Layout of the states, in the order of the spec.
        stats: What it has done since it was loaded.
    """

    name: str
    version: str
    sha256: str
    size: int
    session: Session
    spec: pb.ModelSpec
    digest: bytes
    states: tuple[StateLayout, ...]
    stats: ModelStats = field(default_factory=ModelStats)

    @property
    def label(self) -> str:
        """The model as it is named in texts."""
        return f"model {self.name!r} version {self.version}"

    @cached_property
    def features(self) -> int:
        """Values in one observation."""
        return len(self.spec.forecast.features)

    @cached_property
    def forecast_size(self) -> int:
        """Values in one forecast: horizon times targets times quantiles."""
        forecast = self.spec.forecast
        return forecast.horizon * len(forecast.targets) * len(forecast.quantile_levels)

    @property
    def steps_per_row(self) -> int:
        """Steps of the longest network that one row may cost: its characters, or 1."""
        return max(1, self.spec.labelling.characters.max_characters)

    @cached_property
    def allow_missing(self) -> NDArray[np.bool_]:
        """For each feature, whether NaN may stand for a missing value."""
        return np.array([feature.allow_missing for feature in self.spec.forecast.features], bool)

    @cached_property
    def value_dtype(self) -> np.dtype[Any]:
        """The type in which the network reads observations: float32, or float16 if it says so."""
        return np.dtype(next(one.dtype for one in self.spec.inputs if one.name == "x"))

    def readable(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Observations in `value_dtype`; what is beyond it is infinite, and refused as such."""
        with np.errstate(over="ignore"):
            return values.astype(self.value_dtype, copy=False)

    def unreadable(self, feature: int, value: np.floating[Any]) -> str:
        """What is wrong with a value that may not go into the network."""
        spec = self.spec.forecast.features[feature]
        hint = "" if spec.allow_missing else "; this feature takes no missing values"
        if self.value_dtype != np.float32 and not np.isnan(value):
            largest = np.finfo(self.value_dtype).max
            hint = f" in {self.value_dtype}, which this model reads: it holds at most {largest}"
        return f"feature {spec.name!r}: the value is {value}{hint}"

    def require_forecasting(self) -> None:
        """Refuses a forecast from a model of another task.

        Raises:
            FailedPreconditionError: The text names the right call.
        """
        if self.spec.task == pb.TASK_FORECASTING:
            return
        if self.spec.task == pb.TASK_LABELLING:
            raise FailedPreconditionError(
                f"{self.label} labels whole sentences and cannot forecast a stream "
                f"({self._direction}): call AnnotateSentences"
            )
        self._refuse_language_model()
        raise FailedPreconditionError(
            f"{self.label} is a bare recurrent stack without a forecast: export it with a head"
        )

    def require_labelling(self) -> None:
        """Refuses sentences on a model of another task.

        Raises:
            FailedPreconditionError: The text names the right call.
        """
        if self.spec.task != pb.TASK_LABELLING:
            self._refuse_language_model()
            raise FailedPreconditionError(
                f"{self.label} does not label sentences ({self._direction}): call StreamForecast "
                "for live series or Forecast for windows"
            )

    def _refuse_language_model(self) -> None:
        if self.spec.task == pb.TASK_LANGUAGE_MODELLING:
            raise FailedPreconditionError(
                f"{self.label} is a language model, and this server has no call that gives the "
                "probabilities of tokens: run its file with ONNX Runtime, as docs/onnx.md shows"
            )

    @property
    def _direction(self) -> str:
        name = pb.Direction.Name(self.spec.direction).removeprefix("DIRECTION_").lower()
        return f"it is {name}"


def load_model(
    name: str,
    version: str,
    path: Path,
    settings: Settings,
    sha256: str = "",
    trial: Trial | None = None,
) -> Model:
    """Loads, checks and warms up one file.

    Args:
        name: The model's name.
        version: Its version.
        path: Of the ONNX file.
        settings: Where it runs.
        sha256: The digest that its publisher gave, hexadecimal; empty: none.
        trial: Tries it in another process first.

    Raises:
        LoadError: The text names the file and the reason.
    """
    try:
        content = path.read_bytes()
        digest = _digest(content, sha256)
        if trial is not None:
            trial.check(content)
        session, spec, text, states = load_content(
            content, settings.provider, settings.threads, tf32=settings.tf32
        )
    except (LoadError, OSError) as error:
        raise LoadError(f"{path}: {error}") from error
    logger.info(
        "loaded model",
        extra={"model": name, "version": version, "provider": session.provider, "sha256": digest},
    )
    return Model(name, version, digest, len(content), session, spec, spec_digest(text), states)


def _digest(content: bytes, published: str) -> str:
    """The file's SHA-256, which is the published one where there is one."""
    digest = hashlib.sha256(content).hexdigest()
    if published not in ("", digest):
        raise LoadError(
            f"the file's SHA-256 is {digest}, its publisher gave {published}: it is damaged or "
            "not written to its end"
        )
    return digest
