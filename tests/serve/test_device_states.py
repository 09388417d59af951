"""Streams whose states are in device memory answer as those whose states are on the host.

Device memory is that of ONNX Runtime's CPU provider here; tests marked `gpu` take CUDA's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support import onnx_models
from tidegate.serve.batch import Batch
from tidegate.serve.binding import DeviceTensor
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.entries import Chunks
from tidegate.serve.errors import PoisonedStateError
from tidegate.serve.model import Model
from tidegate.serve.opening import Opening
from tidegate.serve.settings import Settings
from tidegate.serve.slots import DeviceSlots, HostSlots, slots_of
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def test_states_are_where_the_network_runs(models: Path) -> None:
    assert isinstance(slots_of(onnx_models.load(models, "gru"), 8), HostSlots)


@pytest.mark.gpu
def test_states_of_networks_on_cuda_are_in_its_memory(models: Path) -> None:
    assert isinstance(slots_of(onnx_models.load(models, "gru", provider="cuda"), 8), DeviceSlots)


class Streams:
    """Batches of steps on a table whose states are in one of the two places."""

    def __init__(self, model: Model, *, device: bool) -> None:
        self.settings = Settings(max_series=200)
        self.table = SeriesTable(model, self.settings, CheckpointSigner([b"k" * 32]))
        if device:
            self.table.slots = DeviceSlots(model.states, 200, model.session.provider)
        self.handles = [
            self.table.start(Opening(1, "", f"{i}", every_step=True)).handle for i in range(100)
        ]

    def send(self, values: list[NDArray[np.float32]]) -> Any:
        """One chunk for each of the first series, together."""
        handles = self.handles[: len(values)]
        offsets = self.table.next_offset[handles].tolist()
        data = b"".join(one.tobytes() for one in values)
        lengths = [len(one) for one in values]
        batch = Batch([Chunks(1, handles, offsets, lengths, data)], self.table, self.settings)
        for run in batch.runs():
            outputs = self.table.model.session.run(run.feeds)
            batch.commit(run, outputs)
        return batch.outcomes()[0]

    def states(self) -> list[tuple[bytes, ...]]:
        return [tuple(states) for states in self.table.slots.read_all(self.handles)]


def chunks(seed: int, most: int = 5) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, most + 1, random.integers(1, 101))
    return [random.normal(size=(length, 3)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("name", ["gru", "lstm", "difference"])
def test_forecasts_and_states_are_those_of_the_host_bit_for_bit(models: Path, name: str) -> None:
    model = onnx_models.load(models, name)
    host, device = Streams(model, device=False), Streams(model, device=True)
    for seed in range(6):
        assert host.send(chunks(seed)) == device.send(chunks(seed))
        assert host.states() == device.states()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gru", "lstm", "difference"])
def test_cuda_agrees_with_the_cpu_over_a_stream(models: Path, name: str) -> None:
    host = Streams(onnx_models.load(models, name), device=False)
    device = Streams(onnx_models.load(models, name, provider="cuda"), device=True)
    for seed in range(6):
        ours, theirs = host.send(chunks(seed)), device.send(chunks(seed))
        np.testing.assert_allclose(
            np.frombuffer(theirs.quantiles, "<f4"), np.frombuffer(ours.quantiles, "<f4"), atol=1e-5
        )


def test_states_stay_on_the_device_from_run_to_run(models: Path) -> None:
    streams = Streams(onnx_models.load(models, "lstm"), device=True)
    feeds = streams.table.slots.gather(np.array(streams.handles[:2]))
    x = np.zeros((2, 1, 3), np.float32)
    outputs = streams.table.model.session.run({"x": x, "lengths": np.ones(2, np.int32), **feeds})
    assert {name for name, value in outputs.items() if isinstance(value, DeviceTensor)} == {
        "h_next",
        "c_next",
    }
    assert isinstance(outputs["quantiles"], np.ndarray)


@pytest.mark.parametrize("device", [False, True])
def test_a_poisoned_series_is_refused_alone(models: Path, device: bool) -> None:
    streams = Streams(onnx_models.load(models, "explosive"), device=device)
    before = streams.states()
    values = chunks(0, most=1)[:4]
    values[2][:] = 1000
    outcome = streams.send(values)
    assert [failure.handle for failure in outcome.failures] == [streams.handles[2]]
    assert isinstance(outcome.failures[0].error, PoisonedStateError)
    changed = [now != was for now, was in zip(streams.states(), before, strict=True)]
    assert changed[:5] == [True, True, False, True, False]


@pytest.mark.parametrize("device", [False, True])
def test_a_checkpoint_brings_a_series_back(models: Path, device: bool) -> None:
    model = onnx_models.load(models, "gru")
    here, there = Streams(model, device=device), Streams(model, device=not device)
    here.send(chunks(1))
    (checkpoint,) = here.table.checkpoints(here.handles[:1])
    restored = CheckpointSigner([b"k" * 32]).open(checkpoint.token, model, "0", "")
    there.table.finish(1, there.handles[:1])
    there.table.start(Opening(1, "", "0"), restored)
    assert there.states()[0] == here.states()[0]
