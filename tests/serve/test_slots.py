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

from tidegate.serve.binding import DeviceState
from tidegate.serve.errors import ResourceExhaustedError
from tidegate.serve.session import CPU, CUDA
from tidegate.serve.slots import DeviceSlots, HostSlots, Slots
from tidegate.serve.slots.graphs import gather_graph, residue_graph, scatter_graph
from tidegate.serve.spec import StateLayout

if TYPE_CHECKING:
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
