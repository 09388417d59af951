"""The experiment on memory shows what it says."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "memory.py"


@pytest.fixture(scope="module")
def memory() -> Iterator[ModuleType]:
    """The example as a module, on one thread."""
    spec = importlib.util.spec_from_file_location("memory_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)
    del sys.modules[spec.name]


METHODS = ("none", "zaremba", "rnndrop", "variational", "weight_drop", "semeniuta", "zoneout")


def test_all_six_methods_are_in_the_experiment(memory: ModuleType) -> None:
    assert tuple(memory.METHODS) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_supported_method_keeps_its_memory_exactly(memory: ModuleType, method: str) -> None:
    assert memory.retention(method) == [1.0] * memory.LENGTH


def test_a_mask_per_step_on_the_memory_keeps_k_to_the_t(memory: ModuleType) -> None:
    left = memory.retention(memory.REFUSED)

    # After t more steps, within five standard errors of a binomial share.
    for t in (1, 2, 4, 8):
        expected = (1 - memory.P) ** t
        error = (expected * (1 - expected) / (0.5 * 200 * memory.WIDTH)) ** 0.5
        assert abs(left[t] - expected) < 5 * error
    assert left[-1] < 1e-3


@pytest.mark.slow
def test_only_the_mask_per_step_on_the_memory_destroys_it(
    memory: ModuleType, tmp_path: Path
) -> None:
    learned = {name: memory.learn(name) for name in METHODS}
    slowest = max(one.updates[-1] for one in learned.values())
    # As many updates as the slowest needs, and as many again.
    learned[memory.REFUSED] = memory.learn(memory.REFUSED, most_updates=2 * slowest)

    assert {name: one.accuracy >= 0.99 for name, one in learned.items()} == {
        name: name != memory.REFUSED for name in learned
    }
    assert learned[memory.REFUSED].accuracy == pytest.approx(memory.CHANCE, abs=0.04)
    retained = {name: memory.retention(name) for name in learned}
    picture = memory.plots.save(memory.figure(learned, retained), tmp_path / "memory.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
