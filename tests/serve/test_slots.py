"""States in host memory and in device memory are the same states, bit for bit.

Device memory is that of ONNX Runtime's CPU provider here; tests marked `gpu` take CUDA's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tidegate.serve.batch import Batch
from tidegate.serve.binding import DeviceState, DeviceTensor
from tidegate.serve.checkpoint import CheckpointSigner
from tidegate.serve.entries import Chunks
from tidegate.serve.errors import PoisonedStateError, ResourceExhaustedError
from tidegate.serve.model import Model, load_model
from tidegate.serve.opening import Opening
from tidegate.serve.session import CPU, CUDA
from tidegate.serve.settings import Settings
from tidegate.serve.slots import DeviceSlots, HostSlots, Slots, slots_of
from tidegate.serve.slots.graphs import gather_graph, residue_graph, scatter_graph
from tidegate.serve.spec import StateLayout
from tidegate.serve.streams import SeriesTable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Make = Callable[[tuple[StateLayout, ...], int], Slots]

NAN = float("nan")
LAYOUTS = (
    StateLayout("h", "h_next", 2, 3, 0.0, np.dtype("float32")),
    StateLayout("p", "p_next", 1, 2, NAN, np.dtype("float16")),
)
MAKERS = [
    pytest.param(HostSlots, id="host"),
    pytest.param(lambda layouts, limit: DeviceSlots(layouts, limit, CPU), id="device"),
    pytest.param(
        lambda layouts, limit: DeviceSlots(layouts, limit, CUDA), id="cuda", marks=pytest.mark.gpu
    ),
]
every_kind = pytest.mark.parametrize("make", MAKERS)


def rows(count: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Next states of so many series, as the network gives them."""
    random = np.random.default_rng(seed)
    return {
        one.output: random.normal(size=(one.layers, count, one.width)).astype(one.dtype)
        for one in LAYOUTS
    }


def on_the_device(outputs: dict[str, NDArray[Any]], slots: Slots) -> dict[str, Any]:
    """The outputs of a run as these slots take them."""
    if isinstance(slots, HostSlots):
        return outputs
    # A run's outputs lie where a gather's do.
    source = DeviceSlots(LAYOUTS, 64, CPU)
    for slot in range(next(iter(outputs.values())).shape[1]):
        source.write(slot, [value[:, slot].tobytes() for value in outputs.values()])
    count = np.arange(next(iter(outputs.values())).shape[1])
    return {state.output: state.tensor for state in source.gather(count).values()}


def fed(slots: Slots, places: NDArray[np.int64]) -> list[NDArray[Any]]:
    """What the network would be fed with."""
    feeds = slots.gather(places).values()
    return [feed.tensor.numpy() if isinstance(feed, DeviceState) else feed for feed in feeds]


@every_kind
def test_slots_grow_by_doubling_and_keep_what_they_hold(make: Make) -> None:
    slots = make(LAYOUTS, 200)
    taken = [slots.acquire() for _ in range(64)]
    state = [np.arange(6, dtype="<f4").tobytes(), np.ones(2, "<f2").tobytes()]
    slots.write(taken[5], state)
    assert (slots.size, slots.used) == (64, 64)
    taken.extend(slots.acquire() for _ in range(136))
    assert (slots.size, slots.used) == (200, 200)
    assert slots.full
    assert slots.read(taken[5]) == state
    with pytest.raises(ResourceExhaustedError, match="all 200 series of this model"):
        slots.acquire()


@every_kind
def test_a_slot_is_reset_to_the_declared_values_before_its_next_owner(make: Make) -> None:
    slots = make(LAYOUTS, 1)
    slot = slots.acquire()
    fresh = slots.read(slot)
    slots.write(slot, [b"\x01" * 24, b"\x01" * 4])
    assert slots.read(slot) != fresh
    slots.release(slot)
    assert slots.read(slots.acquire()) == fresh
    assert np.frombuffer(fresh[0], "<f4").tolist() == [0] * 6
    assert np.isnan(np.frombuffer(fresh[1], "<f2")).all()


@every_kind
def test_a_state_that_starts_finite_and_is_so_no_more_is_found(make: Make) -> None:
    slots = make(LAYOUTS, 8)
    outputs = rows(5)
    assert slots.finite(on_the_device(outputs, slots)).tolist() == [True] * 5
    outputs["h_next"][1, 1, 2] = np.inf
    outputs["h_next"][0, 3, 0] = np.nan
    # It started as NaN, and nothing was observed yet.
    outputs["p_next"][0, 4] = np.nan
    found = slots.finite(on_the_device(outputs, slots))
    assert found.tolist() == [True, False, True, False, True]


@every_kind
def test_what_is_set_before_a_scatter_is_overwritten_by_it(make: Make) -> None:
    slots = make(LAYOUTS, 8)
    one, other = slots.acquire(), slots.acquire()
    outputs = rows(2)
    slots.reset(one)
    slots.scatter(np.array([one, other]), on_the_device(outputs, slots))
    assert slots.read(one) == [value[:, 0].tobytes() for value in outputs.values()]
    slots.reset(other)
    assert slots.read(other) != [value[:, 1].tobytes() for value in outputs.values()]


class Pair:
    """The same calls on both kinds, which must always hold the same."""

    def __init__(self, limit: int) -> None:
        self.host, self.device = HostSlots(LAYOUTS, limit), DeviceSlots(LAYOUTS, limit, CPU)
        self.taken: list[int] = []

    def acquire(self) -> None:
        slots = {self.host.acquire(), self.device.acquire()}
        assert len(slots) == 1
        self.taken.append(*slots)

    def release(self, index: int) -> None:
        slot = self.taken.pop(index % len(self.taken))
        self.host.release(slot)
        self.device.release(slot)

    def write(self, index: int, seed: int) -> None:
        states = [value[:, 0].tobytes() for value in rows(1, seed).values()]
        for slots in (self.host, self.device):
            slots.write(self.taken[index % len(self.taken)], states)

    def run(self, seed: int) -> None:
        """Some series step, and the states of some of these are kept."""
        random = np.random.default_rng(seed)
        batch = random.permutation(self.taken)[: random.integers(1, len(self.taken) + 1)]
        for mine, own in zip(fed(self.host, batch), fed(self.device, batch), strict=True):
            np.testing.assert_array_equal(mine, own)
        keep = random.permutation(len(batch))[: random.integers(1, len(batch) + 1)]
        chosen = None if len(keep) == len(batch) else np.sort(keep)
        outputs = rows(len(batch), seed)
        for slots in (self.host, self.device):
            kept = batch if chosen is None else batch[chosen]
            slots.scatter(kept, on_the_device(outputs, slots), chosen)

    def check(self) -> None:
        assert self.host.read_all(self.taken) == self.device.read_all(self.taken)


calls = st.tuples(st.sampled_from(["acquire", "release", "write", "run"]), st.integers(0, 999))


@given(steps=st.lists(calls, max_size=25), first=st.integers(1, 70))
@hypothesis_settings(deadline=None, max_examples=25)
def test_both_kinds_hold_the_same_after_any_calls(steps: list[tuple[str, int]], first: int) -> None:
    pair = Pair(limit=200)
    for _ in range(first):
        pair.acquire()
    for name, number in steps:
        if name == "acquire":
            pair.acquire()
        elif pair.taken and name == "release":
            pair.release(number)
        elif pair.taken and name == "write":
            pair.write(number, number)
        elif pair.taken:
            pair.run(number)
    pair.check()


def test_a_scatter_writes_into_the_memory_of_the_array() -> None:
    slots = DeviceSlots(LAYOUTS, 64, CPU)
    before = [tensor.value.data_ptr() for tensor in slots._arrays]
    slots.write(3, [value[:, 0].tobytes() for value in rows(1).values()])
    slots.gather(np.array([3]))
    assert [tensor.value.data_ptr() for tensor in slots._arrays] == before
    assert slots.read(3) == [value[:, 0].tobytes() for value in rows(1).values()]


@pytest.mark.parametrize("graph", [gather_graph, scatter_graph, residue_graph])
def test_the_graphs_are_sound(graph: Callable[[tuple[StateLayout, ...]], bytes]) -> None:
    onnx.checker.check_model(onnx.load_from_string(graph(LAYOUTS)), full_check=True)


def load(models: Path, name: str, **settings: Any) -> Model:
    path = models / name / "1" / "model.onnx"
    return load_model(name, "1", path, Settings(**{"provider": "cpu", **settings}))


def test_states_are_where_the_network_runs(models: Path) -> None:
    assert isinstance(slots_of(load(models, "gru"), 8), HostSlots)


@pytest.mark.gpu
def test_states_of_networks_on_cuda_are_in_its_memory(models: Path) -> None:
    assert isinstance(slots_of(load(models, "gru", provider="cuda"), 8), DeviceSlots)


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
    model = load(models, name)
    host, device = Streams(model, device=False), Streams(model, device=True)
    for seed in range(6):
        assert host.send(chunks(seed)) == device.send(chunks(seed))
        assert host.states() == device.states()


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gru", "lstm", "difference"])
def test_cuda_agrees_with_the_cpu_over_a_stream(models: Path, name: str) -> None:
    host = Streams(load(models, name), device=False)
    device = Streams(load(models, name, provider="cuda"), device=True)
    for seed in range(6):
        ours, theirs = host.send(chunks(seed)), device.send(chunks(seed))
        np.testing.assert_allclose(
            np.frombuffer(theirs.quantiles, "<f4"), np.frombuffer(ours.quantiles, "<f4"), atol=1e-5
        )


def test_states_stay_on_the_device_from_run_to_run(models: Path) -> None:
    streams = Streams(load(models, "lstm"), device=True)
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
    streams = Streams(load(models, "explosive"), device=device)
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
    model = load(models, "gru")
    here, there = Streams(model, device=device), Streams(model, device=not device)
    here.send(chunks(1))
    (checkpoint,) = here.table.checkpoints(here.handles[:1])
    restored = CheckpointSigner([b"k" * 32]).open(checkpoint.token, model, "0", "")
    there.table.finish(1, there.handles[:1])
    there.table.start(Opening(1, "", "0"), restored)
    assert there.states()[0] == here.states()[0]
