"""Files that end the process which loads them, or hold it up: the server is another one."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support import onnx_models
from support.metrics import Scraper, free_port
from support.server import ServerProcess
from tidegate.client import Client
from tidegate.serve.errors import LoadError
from tidegate.serve.settings import Settings
from tidegate.serve.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path

GOOD = onnx_models.forecaster("gru", seed=98).SerializeToString()
BAD = onnx_models.crashing().SerializeToString()
ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


def test_this_file_does_end_the_process_that_loads_it() -> None:
    """Else the tests below show nothing: find another file then."""
    code = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", code], input=BAD, capture_output=True, check=False)
    assert done.returncode < 0


def test_a_file_that_ends_its_process_is_refused_and_the_next_one_is_tried() -> None:
    with Trial(Settings(provider="cpu")) as trial:
        for _ in range(2):
            with pytest.raises(LoadError, match=r"process that loaded the file ended with SIGABRT"):
                trial.check(BAD)
            trial.check(GOOD)


def test_a_file_that_cannot_be_served_is_refused_with_the_reason_from_there() -> None:
    with Trial(Settings(provider="cpu")) as trial, pytest.raises(LoadError, match="cannot be str"):
        trial.check(onnx_models.forecaster("gru", looks_ahead=True).SerializeToString())


def test_a_file_that_takes_too_long_is_given_up() -> None:
    """No process begins in a millisecond."""
    content = onnx_models.forecaster("gru", seed=97).SerializeToString()
    with (
        Trial(Settings(provider="cpu", trial_seconds=0.001)) as trial,
        pytest.raises(LoadError, match=r"took more than 0.001 s \(--trial-seconds\)"),
    ):
        trial.check(content)


def test_what_has_passed_is_not_tried_again_nor_is_anything_with_no_time() -> None:
    with Trial(Settings(provider="cpu")) as trial:
        trial.check(GOOD)
    with Trial(Settings(provider="cpu")) as trial:
        trial.check(GOOD)
        assert trial._process is None
    with Trial(Settings(provider="cpu", trial_seconds=0)) as trial:
        trial.check(BAD)


def test_a_server_outlives_such_a_version_and_its_streams_know_nothing_of_it(
    tmp_path: Path,
) -> None:
    onnx_models.save(onnx_models.forecaster("gru"), tmp_path, "gru", "1")
    port = free_port()
    options = ["--poll-seconds", "0.05", "--metrics-port", f"{port}"]
    with (
        ServerProcess(tmp_path, *options) as server,
        Client(server.target) as client,
        client.stream("gru", ["a"]) as stream,
    ):
        stream.send("a", ROWS[:4])
        onnx_models.save(onnx_models.crashing(), tmp_path, "gru", "2")
        metrics = Scraper(port)
        while not metrics.value("model_load_failures_total", model="gru"):
            threading.Event().wait(0.02)
        last = stream.send("a", ROWS[4:])[-1]
        np.testing.assert_array_equal(last, client.forecast("gru", [ROWS])[0])
        assert [model.version for model in client.list_models()] == ["1"]
        stream.close()
        assert "ended with SIGABRT: the file is damaged" in server.end()


def test_a_server_that_begins_with_such_a_file_says_so_and_ends(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.crashing(), tmp_path, "gru")
    with pytest.raises(RuntimeError, match=r"model.onnx: a process that loaded the file ended"):
        ServerProcess(tmp_path)
