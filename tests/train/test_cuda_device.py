"""The CUDA kernels on a device: numbers against the CPU, and time against cuDNN."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.layers import assert_same, problem, run, run_readable
from support.recurrent_cases import COMBINATIONS, FLAVOURS, METHODS, Case, methods_for, regularizers
from tidegate.train import Semeniuta, Variational, Zoneout, counter_rng
from tidegate.train.kernels.cuda.draw import draw
from tidegate.train.kernels.cuda.recurrent_layer import recurrent_layer, supports
from tidegate.train.kernels.draw import Draw

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """Products of float32 with all its bits, in cuDNN too."""
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize(("case", "method"), methods_for(FLAVOURS, METHODS | COMBINATIONS), ids=str)
def test_outputs_and_gradients_are_those_of_the_cpu(
    case: Case, method: str, ragged: bool, reverse: bool
) -> None:
    on_cpu, one = (
        problem(
            case,
            method,
            ragged=ragged,
            reverse=reverse,
            dtype=torch.float32,
            sizes=(9, 7, 13, 37),
            device=device,
        )
        for device in ("cpu", "cuda")
    )
    assert supports(one.weights, one.masks)

    # The third call and those after it replay a CUDA graph.
    results = [run(one, recurrent_layer) for _ in range(4)]

    expected_outputs, expected_gradients = run_readable(on_cpu)
    for outputs, gradients in results:
        assert_same(outputs, expected_outputs, 1e-4)
        assert_same(gradients, expected_gradients, 1e-4)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_a_network_learns_on_the_device_what_it_learns_on_the_cpu(case: Case) -> None:
    def losses(device: str) -> list[float]:
        model = case._replace(layers=3, directions=2).build(
            *regularizers("variational+zoneout+weight_drop"),
            dtype=torch.float32,
            input_size=5,
            hidden_size=24,
        )
        model = model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        torch.manual_seed(3)
        x, lengths = torch.randn(6, 11, 5).to(device), torch.tensor([11, 3, 1, 7, 11, 5])
        values: list[float] = []
        for _ in range(6):
            output, _ = model(x, lengths)
            loss = (output - 0.5).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(float(loss.detach()))
        return values

    assert losses("cuda") == pytest.approx(losses("cpu"), abs=1e-4)


@pytest.mark.parametrize("case", FLAVOURS, ids=lambda case: case.flavour)
def test_bfloat16_is_near_float32_and_carries_the_memory_in_float32(case: Case) -> None:
    one = problem(case, "rnndrop", sizes=(30, 8, 16, 32), dtype=torch.float32, device="cuda")

    with torch.autocast("cuda", dtype=torch.bfloat16):
        output, state = recurrent_layer(
            case.flavour, one.x, None, one.state, one.weights, one.masks, reverse=False
        )

    assert output.dtype == torch.bfloat16
    assert state.h.dtype == torch.float32
    expected, _ = run_readable(one)
    assert_same((output.float(), state.h), expected[:2], 3e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("units", [1, 5, 1500, 70_000])
def test_a_draw_is_that_of_the_cpu(units: int, dtype: torch.dtype) -> None:
    samples = torch.tensor([0, 1, 7, 2**40])
    what = Draw(-5, round(0.3 * 2**24), 3, units, -1 / 3, 1 / 0.7, dtype)

    on_device = draw(samples.cuda(), what)

    assert on_device.cpu().equal(counter_rng.draw_in_torch(samples, what))


def test_a_network_draws_the_masks_of_the_cpu() -> None:
    model = Case("lstm", layers=2).build(
        Variational(0.3), Zoneout(), Semeniuta(0.2), dtype=torch.float32
    )

    on_cpu = model.sample_masks(4, 6)
    on_device = model.cuda().sample_masks(4, 6)

    for (mine,), (theirs,) in zip(on_device.layers, on_cpu.layers, strict=True):
        for actual, expected in zip(mine, theirs, strict=True):
            if isinstance(expected, torch.Tensor):
                assert isinstance(actual, torch.Tensor)
                assert actual.cpu().equal(expected)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_regularizer_takes_at_most_half_as_long_again_as_cudnn_without(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    from train_recurrent_cuda import SHAPES, ratios

    dtype = getattr(torch, precision)
    slow = {
        (cell, shape, method): ratio
        for cell in ("lstm", "gru")
        for shape in SHAPES
        for method, ratio in ratios(cell, shape, dtype, rounds=7).items()
        if ratio > 1.5
    }

    assert not slow
