"""What a client asks beside streams: how a request is made and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tidegate.client.frames import is_frame, rows_of
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import model_spec_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

# Below any server's limit of sentences in one request.
_SENTENCES = 256


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model on the server.

    Attributes:
        name: The model's name.
        version: Its version.
        aliases: Other names of this version, such as "champion".
        task: "forecasting", "labelling" or "recurrent".
        direction: "causal" or "bidirectional".
        sha256: Hexadecimal digest of the ONNX file.
        provider: ONNX Runtime's name of what runs it.
    """

    name: str
    version: str
    aliases: tuple[str, ...]
    task: str
    direction: str
    sha256: str
    provider: str


class Annotation(NamedTuple):
    """The labels of one sentence and the probability of each.

    Attributes:
        labels: One for each token; none if the model labels sentences only.
        probabilities: Of the labels.
        sentence_label: Of the whole; empty if the model labels tokens only.
        sentence_probability: Of it.
    """

    labels: list[str]
    probabilities: list[float]
    sentence_label: str = ""
    sentence_probability: float = 0.0


def targets_of(target: str | Sequence[str]) -> list[str]:
    """One or more addresses.

    Raises:
        ValueError: There is none.
    """
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise ValueError('target is empty: give at least one "HOST:PORT"')
    return targets


def reference(model: str) -> pb.ModelReference:
    """Parses `name`, `name/version` or `name@alias`."""
    name, at, alias = model.partition("@")
    if at:
        return pb.ModelReference(name=name, alias=alias)
    name, slash, version = model.partition("/")
    return pb.ModelReference(name=name, version=version) if slash else pb.ModelReference(name=name)


def info_of(info: pb.ModelInfo) -> ModelInfo:
    """One model of the answer to ListModels."""
    task = model_spec_pb2.Task.Name(info.task)
    direction = model_spec_pb2.Direction.Name(info.direction)
    return ModelInfo(
        info.name,
        info.version,
        tuple(info.aliases),
        task.removeprefix("TASK_").lower(),
        direction.removeprefix("DIRECTION_").lower(),
        info.sha256,
        info.provider,
    )


def forecast_request(
    model: str, windows: Sequence[ArrayLike], spec: model_spec_pb2.ForecastSpec
) -> pb.ForecastRequest:
    """Windows [rows, features], [rows] for one feature, or DataFrames, as a request."""
    features = [feature.name for feature in spec.features]
    arrays = [_window(window, features) for window in windows]
    return pb.ForecastRequest(
        model=reference(model),
        windows=[pb.Window(rows=len(array), values=array.tobytes()) for array in arrays],
    )


def forecasts_of(
    response: pb.ForecastResponse, spec: model_spec_pb2.ForecastSpec
) -> NDArray[np.float32]:
    """float32 [windows, horizon, targets, quantiles]."""
    shape = (spec.horizon, len(spec.targets), len(spec.quantile_levels))
    return np.frombuffer(response.quantiles, "<f4").reshape(-1, *shape)


def annotation_requests(
    model: str, sentences: Iterable[Sequence[str]]
) -> Iterator[pb.AnnotateSentencesRequest]:
    """Sentences in requests of bounded size, as they come."""
    batch: list[pb.Sentence] = []
    for sentence in sentences:
        batch.append(pb.Sentence(tokens=sentence))
        if len(batch) == _SENTENCES:
            yield pb.AnnotateSentencesRequest(model=reference(model), sentences=batch)
            batch = []
    if batch:
        yield pb.AnnotateSentencesRequest(model=reference(model), sentences=batch)


def annotations_of(response: pb.AnnotateSentencesResponse) -> list[Annotation]:
    """The labels of each sentence of a request."""
    return [
        Annotation(
            list(one.labels), list(one.probabilities), one.sentence_label, one.sentence_probability
        )
        for one in response.annotations
    ]


def _window(values: ArrayLike, features: Sequence[str]) -> NDArray[np.float32]:
    array = np.asarray(rows_of(values, features) if is_frame(values) else values, "<f4")
    return array[:, None] if array.ndim == 1 else array
