"""Modes, copies, precision, compilation and data-parallel training."""

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed import FileStore  # type: ignore[attr-defined] # public, but not in `__all__`
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from support import data_parallel
from support.recurrent_cases import (
    FLAVOURS,
    METHODS,
    Case,
    inputs,
    methods_for,
    regularizers,
    unpacked,
)
from tidegate.train import Recurrent

# torch's compiler looks at the gradient of every tensor that crosses a graph break.
COMPILED = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
DEEP = tuple(case._replace(layers=2, directions=2) for case in FLAVOURS)
COPIES: dict[str, Callable[[Recurrent], Recurrent]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301 - of the same line
}
EVERY = pytest.mark.parametrize(("case", "method"), methods_for(DEEP, METHODS), ids=str)


@EVERY
def test_evaluation_between_two_training_steps_leaves_no_trace(case: Case, method: str) -> None:
    model = case.build(*regularizers(method))
    other = copy.deepcopy(model)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    model(inputs())
    other(inputs())

    plain = model.eval()(inputs())[0]

    assert model(inputs())[0].equal(plain)
    assert model.train()(inputs())[0].equal(other(inputs())[0])
    assert all(weight.equal(weights[name]) for name, weight in model.state_dict().items())


@EVERY
@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_goes_on_as_the_original_would(copied: str, case: Case, method: str) -> None:
    model = case.build(*regularizers(method))
    model(inputs())

    other: Recurrent = COPIES[copied](model)

    assert other(inputs())[0].equal(model(inputs())[0])
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert not other(inputs())[0].equal(model(inputs())[0])
    assert other.extra_repr() == model.extra_repr()


@EVERY
def test_double_is_the_same_network_in_double_precision(case: Case, method: str) -> None:
    single = case.build(*regularizers(method), dtype=torch.float32)
    double = copy.deepcopy(single).double()

    output, state = double(inputs())
    expected, expected_state = single(inputs(dtype=torch.float32))

    assert output.dtype == torch.float64
    assert all(part.dtype == torch.float64 for part in unpacked(state))
    torch.testing.assert_close(output.float(), expected, atol=1e-5, rtol=0)
    for part, expected_part in zip(unpacked(state), unpacked(expected_state), strict=True):
        torch.testing.assert_close(part.float(), expected_part, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@EVERY
def test_autocast_to_bfloat16_is_near_the_full_precision(
    case: Case, method: str, training: bool
) -> None:
    model = case.build(*regularizers(method), dtype=torch.float32).train(training)
    x = inputs(dtype=torch.float32)
    exact, _ = copy.deepcopy(model)(x)

    with torch.autocast("cpu", torch.bfloat16):
        output, _ = model(x)
    output.float().sum().backward()

    # bfloat16 has 8 bits; five steps through two layers at scales up to 1 / 0.6.
    torch.testing.assert_close(output.float(), exact, atol=0.08, rtol=0)
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@COMPILED
@pytest.mark.parametrize("method", ["zaremba", "zoneout"])
def test_compiled_forward_passes_draw_the_masks_of_plain_ones(method: str) -> None:
    model = Case("gru").build(*regularizers(method))
    plain = copy.deepcopy(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")

    # More passes than torch may compile one function anew.
    for _ in range(12):
        assert compiled(inputs())[0].equal(plain(inputs())[0])

    assert model.step == plain.step == 12
    model.eval()
    plain.eval()
    assert compiled(inputs())[0].equal(plain(inputs())[0])


@COMPILED
@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "method"),
    methods_for(FLAVOURS[:1], METHODS)
    + methods_for(FLAVOURS[1:], ["rnndrop", "variational-untied", "zoneout"]),
    ids=str,
)
def test_compilation_changes_neither_outputs_nor_gradients(case: Case, method: str) -> None:
    model = case.build(*regularizers(method))
    plain = copy.deepcopy(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager")
    lengths = torch.tensor([5, 1, 3])

    output, state = compiled(inputs(), lengths)
    output.square().sum().backward()

    expected, expected_state = plain(inputs(), lengths)
    expected.square().sum().backward()
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
    for part, expected_part in zip(unpacked(state), unpacked(expected_state), strict=True):
        torch.testing.assert_close(part, expected_part, atol=1e-12, rtol=0)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-12, rtol=0)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    store = FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("method", METHODS)
def test_data_parallel_training_on_one_process_is_plain_training(method: str) -> None:
    model = Case("lstm", layers=2, directions=2).build(*regularizers(method))
    plain = copy.deepcopy(model)
    parallel = DistributedDataParallel(model)

    for _ in range(2):
        parallel(inputs())[0].sum().backward()
        plain(inputs())[0].sum().backward()

    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-12, rtol=0)


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """Each process has half of the rows, and with them the masks of that half."""
    model = data_parallel.build()
    expected, _ = model(inputs(data_parallel.ROWS, 5))
    expected.square().mean().backward()

    arguments = (str(tmp_path / "store"), str(tmp_path))
    spawn(data_parallel.train_on_half, arguments, nprocs=2)  # type: ignore[no-untyped-call] # torch leaves it without a signature

    for rank in range(2):
        gradients: dict[str, Tensor] = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-12, rtol=0)
