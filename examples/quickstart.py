"""The whole path in one program: train, track, export, serve, stream, survive.

Run with ``make demo``. Everything it writes lies under ``.tidegate/``.

1. Forecasting. A stacked GRU with zoneout and input dropout learns to forecast
   carbon dioxide at Mauna Loa half a year ahead, as quantiles. It is causal:
   where the future is unknown, only the past may be used.
2. Labelling. A stacked BiLSTM with variational dropout tells nouns from verbs
   of the same form, for which it needs the words to the RIGHT. Beside it the
   same network in one direction, which cannot see them.
3. Every run is in MLflow, every model in its registry.
4. Every model leaves as one ONNX file, on which ONNX Runtime and PyTorch agree.
5. A server streams the held-out years, is killed half way with SIGKILL, and a
   new one goes on from the last checkpoint: not one bit of a forecast differs.
6. One table, two pictures.
"""

import argparse
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tidegate.client import Client
from tidegate.train import config, job, plots
from tidegate.train.data.panel import Panel
from tidegate.train.data.sentences import SentenceSplit
from tidegate.train.evaluate.backtest import Backtest
from tidegate.train.evaluate.labelling import Answers
from tidegate.train.publish import publish

ROOT = Path(__file__).parents[1]
FORECASTING_RECIPE = ROOT / "models" / "recipes" / "co2.toml"
LABELLING_RECIPES = {
    "homographs": ROOT / "models" / "recipes" / "homographs.toml",
    "ud_english_ewt": ROOT / "examples" / "recipes" / "ud_english_ewt.toml",
}
OUTPUT = Path(".tidegate")
SERVED = OUTPUT / "served"
KEY_FILE = OUTPUT / "checkpoint.key"
CHECKPOINT_EVERY = 10
SENTENCES_PER_CALL = 200

console = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Runs all parts in order."""
    recipe = LABELLING_RECIPES[parse_arguments().data]
    console.rule("1. A stacked GRU with zoneout learns to forecast")
    forecaster = job.run(config.load(FORECASTING_RECIPE))

    console.rule("2. A stacked BiLSTM learns to label, and so does its one-direction twin")
    labeller = job.run(config.load(recipe))
    twin = {"name": f"{labeller.config.name}-one-direction", "model.bidirectional": "false"}
    one_direction = job.run(config.load(recipe, twin))

    console.rule("3. Tracked and registered, 4. exported")
    for result in (forecaster, labeller, one_direction):
        describe(result)
        publish(result.path, SERVED, result.config.name, result.registered.version)

    console.rule("5. Served, killed and resumed")
    with server() as process:
        uninterrupted = stream_held_out_years(process.address, forecaster)
        accuracy = label_test_sentences(process.address, labeller)
    identical = np.array_equal(uninterrupted.quantiles, stream_with_a_crash(forecaster))

    console.rule("6. Results")
    console.print(
        result_table(forecaster, labeller, one_direction, uninterrupted, accuracy, identical)
    )
    draw_pictures(forecaster, labeller)
    store = forecaster.config.tracking.uri
    console.print(f"See all runs: .venv/bin/mlflow ui --backend-store-uri {store}")
    if not identical:
        sys.exit("the resumed forecasts differ from the uninterrupted ones")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train, track, export, serve, stream, survive.")
    parser.add_argument(
        "--data",
        choices=LABELLING_RECIPES,
        default="homographs",
        help="sentences to label: generated ones, or the treebank below TIDEGATE_DATA",
    )
    return parser.parse_args()


def describe(result: job.Result) -> None:
    """Says where a run, its model and its file are."""
    parity, registered = result.spec.parity, result.registered
    console.print(
        f"{result.config.name}: run {result.run_id}, version {registered.version}"
        f"{' = champion' if registered.is_champion else ''} ({registered.reason});\n"
        f"  {result.path}: ONNX Runtime and PyTorch differ by at most "
        f"{parity.max_absolute_error:.1e} (relative {parity.max_relative_error:.1e}) "
        f"over {parity.cases} cases"
    )


class server:  # noqa: N801 # reads as what it gives: `with server() as process`
    """A `tidegate-serve` process on a free port."""

    def __enter__(self) -> Self:
        """Starts it and waits for the line that names its address."""
        if not KEY_FILE.exists():
            # Any server with this key goes on where another one stopped.
            KEY_FILE.write_bytes(secrets.token_bytes(32))
        options = {"models": SERVED, "checkpoint-key-file": KEY_FILE, "port": 0}
        command = [sys.executable, "-m", "tidegate.serve", "--log-level=warning"]
        command += [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "listening on" not in line:
            sys.exit("tidegate-serve did not start; its reason is above")
        self.address = line.split()[-1]
        return self

    def kill(self) -> None:
        """SIGKILL: no farewell, nothing saved."""
        self._process.kill()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops it gently and waits."""
        self._process.terminate()
        self._process.communicate()


class Streamed(NamedTuple):
    """Forecasts of one stream, and how long each took."""

    quantiles: NDArray[np.float32]
    seconds: NDArray[np.float64]


def split_history(result: job.Result) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The years before the test part, and the test part."""
    assert isinstance(result.data, Panel)
    (split,) = result.data.splits
    start, stop = split.bounds("test")
    values = split.series.values
    return values[:start], values[start:stop]


def stream_held_out_years(address: str, result: job.Result) -> Streamed:
    """Sends the history at once, then the held-out years one observation at a time."""
    history, held_out = split_history(result)
    forecasts, seconds = [], []
    with Client(address) as client, client.stream(result.config.name, ["mauna-loa"]) as stream:
        stream.send("mauna-loa", history)
        for row in held_out:
            begin = time.perf_counter()
            forecasts.append(stream.step("mauna-loa", row))
            seconds.append(time.perf_counter() - begin)
    return Streamed(np.stack(forecasts), np.array(seconds))


def stream_with_a_crash(result: job.Result) -> NDArray[np.float32]:
    """The same stream, with a server that is killed half way and a new one."""
    history, held_out = split_history(result)
    before, token = stream_until_killed(result, held_out[: len(held_out) // 2])
    with (
        server() as process,
        Client(process.address) as client,
        client.stream(result.config.name, {"mauna-loa": token}) as stream,
    ):
        # What the checkpoint does not cover is sent again.
        resumed = stream.next_offset("mauna-loa") - len(history)
        console.print(
            f"killed after {len(before)} observations, resumed from the checkpoint at {resumed}: "
            f"{len(before) - resumed} sent again"
        )
        after = [stream.step("mauna-loa", row) for row in held_out[resumed:]]
    return np.stack(before[:resumed] + after)


def stream_until_killed(
    result: job.Result, rows: NDArray[np.float64]
) -> tuple[list[NDArray[np.float32]], bytes]:
    """Streams some rows, then kills the server; returns forecasts and the last checkpoint."""
    history, _ = split_history(result)
    with server() as process, Client(process.address) as client:
        stream = client.stream(result.config.name, ["mauna-loa"], checkpoint_every=CHECKPOINT_EVERY)
        stream.send("mauna-loa", history)
        forecasts = [stream.step("mauna-loa", row) for row in rows]
        process.kill()
    return forecasts, stream.checkpoints["mauna-loa"]


def label_test_sentences(address: str, result: job.Result) -> float:
    """Labels the test sentences over gRPC; returns the accuracy."""
    assert isinstance(result.data, SentenceSplit)
    sentences = result.data.test
    right: list[bool] = []
    with Client(address) as client:
        for start in range(0, len(sentences), SENTENCES_PER_CALL):
            part = sentences[start : start + SENTENCES_PER_CALL]
            answers = client.annotate(result.config.name, [one.words for one in part])
            for sentence, answer in zip(part, answers, strict=True):
                right += [a == b for a, b in zip(sentence.labels, answer.labels, strict=True)]
    return float(np.mean(right))


def result_table(
    forecaster: job.Result,
    labeller: job.Result,
    one_direction: job.Result,
    streamed: Streamed,
    accuracy: float,
    identical: bool,
) -> Table:
    """Everything that was measured."""
    forecast, labels = forecaster.evaluation.metrics, labeller.evaluation.metrics
    single = one_direction.evaluation.metrics
    milliseconds = streamed.seconds * 1e3
    largest = max(result.spec.parity.max_relative_error for result in (forecaster, labeller))
    rows = {
        "forecast: skill against last year's week": f"{forecast['skill_seasonal_naive']:.1%}",
        "forecast: skill against the last value": f"{forecast['skill_last_value']:.1%}",
        "forecast: coverage of the 80 % interval": f"{forecast['coverage_80']:.1%}",
        "labels: accuracy, two directions": f"{labels['accuracy']:.2%}",
        "labels: accuracy, one direction": f"{single['accuracy']:.2%}",
        "labels: ambiguous words, two directions": f"{labels['accuracy_ambiguous']:.2%}",
        "labels: ambiguous words, one direction": f"{single['accuracy_ambiguous']:.2%}",
        "labels: accuracy over gRPC, two directions": f"{accuracy:.2%}",
        "parity of ONNX Runtime with PyTorch, relative": f"{largest:.1e}",
        "stream: steps per second, one series": f"{1 / streamed.seconds.mean():,.0f}",
        "stream: latency p50": f"{np.percentile(milliseconds, 50):.2f} ms",
        "stream: latency p99": f"{np.percentile(milliseconds, 99):.2f} ms",
        "stream: killed and resumed, bit for bit equal": "yes" if identical else "NO",
    }
    table = Table("measured on the held-out part", "", title="tidegate quickstart")
    table.columns[1].justify = "right"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def draw_pictures(forecaster: job.Result, labeller: job.Result) -> None:
    """Writes forecast.png and labels.png."""
    (forecasts,), answers = forecaster.evaluation.predictions, labeller.evaluation.predictions
    assert isinstance(forecasts, Backtest)
    assert isinstance(answers, Answers)
    confusion = plots.confusion_figure(answers.confusion(), answers.label_names)
    for figure, name in (
        (plots.forecast_figure(forecasts), "forecast.png"),
        (confusion, "labels.png"),
    ):
        console.print(f"Picture: {plots.save(figure, OUTPUT / name)}")


if __name__ == "__main__":
    # Networks as small as these train fastest on one core.
    torch.set_num_threads(1)
    main()
