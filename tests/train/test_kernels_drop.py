"""The native draw of masks against the readable one, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train import counter_rng
from tidegate.train.kernels import drop as native


@pytest.fixture(autouse=True, scope="module")
def built() -> None:
    assert native.is_ready()


@given(
    key=st.integers(-(2**63), 2**63 - 1),
    threshold=st.integers(0, 2**24),
    samples=st.lists(st.integers(0, 2**62), max_size=5),
    times=st.integers(0, 5),
    units=st.integers(0, 40),
)
def test_every_bit_is_that_of_the_readable_draw(
    key: int, threshold: int, samples: list[int], times: int, units: int
) -> None:
    numbers = torch.tensor(samples, dtype=torch.int64)

    dropped = native.drop(numbers, key, threshold, times, units)

    assert dropped.equal(counter_rng.draw_in_torch(numbers, key, threshold, times, units))


@pytest.mark.parametrize("shape", [(1, 1, 3_000_001), (701, 2, 1009)], ids=str)
def test_a_large_draw_that_threads_share_has_the_same_bits(shape: tuple[int, int, int]) -> None:
    times, count, units = shape
    samples = torch.arange(count)

    dropped = native.drop(samples, 12345, 2**22, times, units)

    assert dropped.equal(counter_rng.draw_in_torch(samples, 12345, 2**22, times, units))


def test_the_draw_passes_torchs_own_checks() -> None:
    torch.library.opcheck(torch.ops.tidegate.drop, (torch.arange(3), 7, 2**23, 4, 5))
