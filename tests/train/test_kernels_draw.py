"""The native draw of masks against the readable one, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train import counter_rng
from tidegate.train.kernels import draw as native


@pytest.fixture(autouse=True, scope="module")
def built() -> None:
    assert native.is_ready()


@given(
    key=st.integers(-(2**63), 2**63 - 1),
    threshold=st.integers(0, 2**24),
    samples=st.lists(st.integers(0, 2**62), max_size=5),
    times=st.integers(0, 5),
    units=st.integers(0, 40),
    factors=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    dtype=st.sampled_from(native.DTYPES),
)
def test_every_factor_is_that_of_the_readable_draw(
    key: int,
    threshold: int,
    samples: list[int],
    times: int,
    units: int,
    factors: tuple[float, float],
    dtype: torch.dtype,
) -> None:
    numbers = torch.tensor(samples, dtype=torch.int64)
    what = native.Draw(key, threshold, times, units, *factors, dtype)

    drawn = native.draw(numbers, what)

    expected = counter_rng.draw_in_torch(numbers, what)
    assert drawn.dtype == dtype
    assert drawn.equal(expected)


@pytest.mark.parametrize("shape", [(1, 1, 3_000_001), (701, 2, 1009)], ids=str)
def test_a_large_draw_that_threads_share_has_the_same_factors(shape: tuple[int, int, int]) -> None:
    times, count, units = shape
    samples = torch.arange(count)
    what = native.Draw(12345, 2**22, times, units, 0.0, 4 / 3, torch.float32)

    assert native.draw(samples, what).equal(counter_rng.draw_in_torch(samples, what))


def test_a_factor_stands_where_its_element_is_dropped_or_kept() -> None:
    dropped = counter_rng.drop(7, 0.3, times=4, samples=5, units=6)

    factors = counter_rng.factors(7, 0.3, times=4, samples=5, units=6, dropped=-1.0, kept=2.0)

    assert factors[dropped].eq(-1).all()
    assert factors[~dropped].eq(2).all()


def test_a_dtype_beyond_the_kernels_is_drawn_all_the_same() -> None:
    half = counter_rng.factors(7, 0.3, times=4, samples=5, units=6, dtype=torch.bfloat16)

    assert half.dtype == torch.bfloat16
    assert half.equal(counter_rng.factors(7, 0.3, times=4, samples=5, units=6).bfloat16())


def test_the_draw_passes_torchs_own_checks() -> None:
    arguments = (torch.arange(3), 7, 2**23, 4, 5, 0.0, 2.0, torch.float32)

    torch.library.opcheck(torch.ops.tidegate.draw, arguments)
