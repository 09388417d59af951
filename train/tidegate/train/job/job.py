"""All steps of a run in their order."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tidegate.train import checkpoint, interrupted_run, tracking
from tidegate.train.build import build_model, load_data
from tidegate.train.config import Config
from tidegate.train.data.catalog import find_dataset
from tidegate.train.fit import Fitted, Processes
from tidegate.train.interrupted_run import InterruptedRun
from tidegate.train.job.exporting import export
from tidegate.train.job.scoring import evaluate, report, score
from tidegate.train.job.training import build_compute, train
from tidegate.train.output import DEFAULT_OUTPUT
from tidegate.train.tasks import Data, Evaluation
from tidegate.v1.model_spec_pb2 import ModelSpec


@dataclass(frozen=True)
class Summary:
    """What a run came to, in a few numbers that another process can have.

    Attributes:
        config: of the run.
        metrics: of the test part.
        seconds: of training.
        best_epoch: from 1.
        path: of the ONNX file.
        spec: of the file.
        run_id: MLflow's.
        registered: the version in MLflow's registry.
    """

    config: Config
    metrics: dict[str, float]
    seconds: float
    best_epoch: int
    path: Path
    spec: ModelSpec
    run_id: str
    registered: tracking.Registered


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        config: of the run.
        data: in three parts.
        model: trained, in evaluation mode.
        fitted: the epochs.
        evaluation: of the test part.
        path: of the ONNX file.
        spec: of the file.
        run_id: MLflow's.
        registered: the version in MLflow's registry.
    """

    config: Config
    data: Data
    model: nn.Module
    fitted: Fitted
    evaluation: Evaluation[Any]
    path: Path
    spec: ModelSpec
    run_id: str
    registered: tracking.Registered

    def summary(self) -> Summary:
        """Without the model, the data and the predictions."""
        return Summary(
            self.config,
            self.evaluation.metrics,
            self.fitted.seconds,
            self.fitted.best_epoch,
            self.path,
            self.spec,
            self.run_id,
            self.registered,
        )


def run(
    config: Config,
    output: str | Path = DEFAULT_OUTPUT,
    *,
    resume: bool = False,
    processes: Processes | None = None,
) -> Result:
    """Trains, evaluates, exports and registers one model.

    Of several processes the first one runs this, the others :func:`assist`. Until
    the model is registered, ``<name>/training.pt`` holds where training stands, as
    of the last epoch or of SIGINT.

    Args:
        config: from :func:`tidegate.train.config.load`.
        output: folder that gets ``<name>/model.onnx`` and ``<name>/model.pt``.
        resume: go on from ``training.pt``, in the same MLflow run.
        processes: those that train the model together; None: this one alone.

    Raises:
        ValueError: configuration and data do not fit each other, what is to be
            resumed is not there or does not fit them, or there is no such device.
        TrainingError: training went astray.
        Interrupted: SIGINT stopped it, and it can be resumed.
        ParityError: ONNX Runtime disagrees with PyTorch; nothing was written.
    """
    processes = processes or Processes()
    compute = build_compute(config, processes)
    data = load_data(config)
    digest = data.digest()
    model = build_model(config, data)
    folder = Path(output) / config.name
    standing = folder / interrupted_run.FILE_NAME
    earlier = interrupted_run.load(standing, config, digest) if resume else None
    with track(config, data, earlier.run_id if earlier else None) as tracked:

        def save(training: dict[str, Any]) -> None:
            stopped = InterruptedRun(tracked.id, training)
            interrupted_run.save(standing, config, digest, stopped)

        tracked.set_tag("device", str(compute))
        tracked.set_tag("processes", str(processes.count))
        training = processes.of_first(earlier.training if earlier else None)
        fitted = train(
            config, model, data, tracked, resume=training, save=save, processes=processes
        )
        tracked.log_file(checkpoint.save(folder / "model.pt", config, model), "checkpoint")
        evaluation = evaluate(config, model, data)
        report(config, evaluation, tracked)
        path = folder / "model.onnx"
        spec = export(config, model, data, evaluation, path, tracked)
        registered = tracked.register(path, spec, config.registered_model, score(data, fitted))
    standing.unlink()
    return Result(config, data, model, fitted, evaluation, path, spec, tracked.id, registered)


def take_part(
    config: Config, output: str | Path, *, resume: bool, processes: Processes
) -> Summary | None:
    """Does this process's part of a run: :func:`run` in the first one, else :func:`assist`."""
    if processes.is_first:
        return run(config, output, resume=resume, processes=processes).summary()
    assist(config, processes)
    return None


def assist(config: Config, processes: Processes) -> Fitted:
    """Takes part in the training of a run whose first process is another one."""
    data = load_data(config)
    model = build_model(config, data)
    training = processes.of_first(None)
    return train(config, model, data, resume=training, save=_leave_it, processes=processes)


def _leave_it(_: dict[str, Any]) -> None:
    """The first process saves."""


@contextmanager
def track(
    config: Config, data: Data, run_id: str | None = None, *, parent: str | None = None
) -> Iterator[tracking.Run]:
    """Begins the MLflow run, with configuration and data set logged.

    Args:
        config: of the run.
        data: of the run.
        run_id: of an interrupted run to go on with, which has both already.
        parent: id of the run to nest this one in.
    """
    section = config.tracking
    tags = {"task": config.task, **({tracking.PARENT_TAG: parent} if parent else {})}
    with tracking.start_run(
        section.uri,
        section.experiment,
        config.name,
        tags,
        run_id,
        system_metrics=section.system_metrics,
    ) as tracked:
        if run_id is not None:
            yield tracked
            return
        tracked.log_config(config.model_dump(mode="json"), config.flat())
        dataset = find_dataset(config.dataset.name)
        tracked.log_dataset(dataset.name, data.digest(), dataset.source, "training")
        yield tracked
