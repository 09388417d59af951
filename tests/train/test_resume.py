"""SIGINT stops a run between two steps; resumed, it ends where it would have ended."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from support.training_tasks import (
    StoppedAfter,
    forecasting,
    labelling,
    language_modelling,
    weights,
)
from tidegate.train import interrupted_run, job, tracking
from tidegate.train.config import load
from tidegate.train.fit import (
    Fitted,
    Interrupted,
    Optimization,
    fit,
)
from tidegate.train.fit.interrupt import Interruption
from tidegate.train.interrupted_run import InterruptedRun

EPOCHS = 3
OPTIMIZATIONS = {
    "adamw-cosine": Optimization(learning_rate=0.01),
    "adamw-plateau": Optimization(learning_rate=0.01, schedule="plateau", plateau_patience=0),
    # A rate this high gets worse at once, which begins the averaging.
    "nt-asgd": Optimization(
        learning_rate=30.0,
        optimizer="sgd",
        schedule="constant",
        average=True,
        non_monotone_interval=1,
    ),
}


TASKS: dict[str, Callable[[], Any]] = {
    "forecasting": forecasting,
    "labelling": labelling,
    "language_modelling": language_modelling,
}


def steps_of_an_epoch(task: Any) -> int:
    return sum(1 for _ in task.losses(1))


@pytest.mark.parametrize("optimization", OPTIMIZATIONS.values(), ids=OPTIMIZATIONS)
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("place", ["in the first epoch", "at an end", "in a later epoch", "last"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    place: str, kind: str, optimization: Optimization, tmp_path: Path
) -> None:
    build = TASKS[kind]
    whole = build()
    expected = fit(whole, optimization, epochs=EPOCHS, patience=EPOCHS)
    length = steps_of_an_epoch(build())
    stop = {
        "in the first epoch": 2,
        "at an end": length,
        "in a later epoch": 2 * length + 3,
        "last": EPOCHS * length,
    }
    file = tmp_path / "training.pt"

    def save(state: dict[str, Any]) -> None:
        torch.save(state, file)

    first = StoppedAfter(build(), stop[place])
    with pytest.raises(Interrupted) as stopped:
        fit(first, optimization, epochs=EPOCHS, patience=EPOCHS, save=save)
    epoch, step = divmod(stop[place] - 1, length)
    assert (stopped.value.epoch, stopped.value.step) == (epoch + 1, step + 1)
    second = build()
    state = torch.load(file, weights_only=True)
    resumed = fit(second, optimization, epochs=EPOCHS, patience=EPOCHS, resume=state, save=save)

    assert torch.equal(weights(second), weights(whole))
    assert without_seconds(resumed) == without_seconds(expected)


def without_seconds(fitted: Fitted) -> Fitted:
    return fitted._replace(seconds=0.0)


def test_a_second_signal_has_its_usual_effect() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_handler_before_is_the_handler_after() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_training_in_another_thread_leaves_signals_alone() -> None:
    failures: list[BaseException] = []

    def train() -> None:
        try:
            fit(labelling(), OPTIMIZATIONS["adamw-cosine"], epochs=1, save=lambda _: None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert failures == []


# Whole runs


@pytest.fixture
def recipe(tmp_path: Path, store_uri: str) -> Path:
    path = tmp_path / "nouns.toml"
    path.write_text(
        'name = "nouns"\ntask = "labelling"\n[dataset]\nname = "homographs"\nsentences = 100\n'
        "[model]\nhidden_size = 5\nembedding_size = 6\nnum_layers = 1\n"
        f'[training]\nepochs = 3\ntokens = 200\n[tracking]\nuri = "{store_uri}"\n'
    )
    return path


def interrupt_after_epoch(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C while the metrics of an epoch are logged."""
    log = tracking.Run.log_metrics

    def log_and_stop(self: Any, metrics: dict[str, float], step: int = 0) -> None:
        log(self, metrics, step)
        if step == number:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(tracking.Run, "log_metrics", log_and_stop)


def test_a_stopped_run_goes_on_in_the_same_mlflow_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, output = load(recipe), tmp_path / "out"
    with monkeypatch.context() as patched:
        interrupt_after_epoch(patched, 2)
        with pytest.raises(Interrupted, match="stopped in epoch 3 after step 0"):
            job.run(config, output)
    client = mlflow.MlflowClient(config.tracking.uri)
    experiment = client.get_experiment_by_name("tidegate")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"

    result = job.run(config, output, resume=True)

    assert result.run_id == run.info.run_id
    assert client.get_run(result.run_id).info.status == "FINISHED"
    history = client.get_metric_history(result.run_id, "train_loss")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert not (output / "nouns" / "training.pt").exists()


def test_what_cannot_be_resumed_is_refused_with_the_reason(recipe: Path, tmp_path: Path) -> None:
    config, file = load(recipe), tmp_path / "training.pt"
    with pytest.raises(ValueError, match=r"there is no interrupted run in .*; leave --resume out"):
        interrupted_run.load(file, config, "digest")
    interrupted_run.save(file, config, "digest", InterruptedRun("run", {}))
    assert interrupted_run.load(file, config, "digest").run_id == "run"
    other = load(recipe, {"training.epochs": 9, "seed": 3})
    with pytest.raises(ValueError, match=r"a run with another seed, training\.epochs; give it"):
        interrupted_run.load(file, other, "digest")
    with pytest.raises(ValueError, match="the data of 'homographs' has changed"):
        interrupted_run.load(file, config, "another")
