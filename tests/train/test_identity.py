"""Without masks the network is torch's own, and evaluation never has masks."""

import copy

import pytest
import torch

from support.recurrent_cases import (
    CASES,
    FLAVOURS,
    HIDDEN,
    IN_TORCH,
    INPUT,
    METHODS,
    Case,
    initial_state,
    inputs,
    methods_for,
    packed,
    regularizers,
    unpacked,
)
from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
)
from tidegate.train.kernels import recurrent_layer as native
from tidegate.train.masks import LayerMasks, Masks
from tidegate.train.regularizers import Regularizer

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
NOTHING: dict[str, tuple[Regularizer, ...]] = {
    "zaremba": (Zaremba(0.0),),
    "rnndrop": (RNNDrop(0.0),),
    "variational": (Variational(0.0),),
    "variational-untied": (Variational(0.0, tied=False),),
    "weight_drop": (WeightDrop(0.0),),
    "semeniuta": (Semeniuta(0.0),),
    "zoneout": (Zoneout(cell=0.0, hidden=0.0),),
    "all": (Zaremba(0.0), RNNDrop(0.0), WeightDrop(0.0), Semeniuta(0.0)),
}
BY_CASE = [
    (case, name)
    for case in IN_TORCH
    for name in NOTHING
    if case.cell != "rnn" or name not in ("semeniuta", "all")
]


def gradients(
    model: torch.nn.Module, x: torch.Tensor, state: tuple[torch.Tensor, ...]
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """(output, final states and the gradients of x and the initial states; those of the weights).

    The loss weighs every output and every final state differently.
    """
    x = x.clone().requires_grad_()
    state = tuple(part.clone().requires_grad_() for part in state)
    output, final = (
        model(x, None, packed(state)) if isinstance(model, Recurrent) else model(x, packed(state))
    )
    results = (output, *unpacked(final))
    loss = sum(
        (result * torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view_as(result)).sum()
        for result in results
    )
    assert isinstance(loss, torch.Tensor)
    loss.backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
    of_inputs = [tensor.grad for tensor in (x, *state)]
    weights = {name: weight.grad for name, weight in model.named_parameters()}
    assert all(one is not None for one in (*of_inputs, *weights.values()))
    return [*results, *of_inputs], weights  # type: ignore[list-item, return-value]  # just checked


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize(("case", "method"), BY_CASE, ids=str)
def test_training_at_rate_zero_is_the_plain_network_with_all_its_gradients(
    case: Case, method: str, dtype: torch.dtype
) -> None:
    model, plain = case.build(*NOTHING[method], dtype=dtype), case.build_torch(dtype)
    plain.load_state_dict(model.state_dict())
    x, state = inputs(dtype=dtype), initial_state(model)

    found, found_weights = gradients(model, x, state)

    expected, expected_weights = gradients(plain, x, state)
    tolerance = TOLERANCE[dtype]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    assert found_weights.keys() == expected_weights.keys()
    for name, gradient in expected_weights.items():
        torch.testing.assert_close(found_weights[name], gradient, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("path", ["native", "readable"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_under_masks_of_ones_each_path_is_the_plain_network_with_all_its_gradients(
    case: Case, dtype: torch.dtype, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory mask of ones leaves torch's kernel and changes no number."""
    model = case.build(dtype=dtype)
    x, state = inputs(dtype=dtype), initial_state(model)
    ones = LayerMasks(memory=torch.ones(3, HIDDEN, dtype=dtype))
    masks = Masks(((ones,) * case.directions,) * case.layers)
    stepwise = _WithMasks(copy.deepcopy(model), masks)
    expected, expected_weights = gradients(model, x, state)
    assert native.supports(model.weights(0, 0), ones)
    if path == "readable":
        monkeypatch.setattr(native, "supports", lambda *_: False)

    found, found_weights = gradients(stepwise, x, state)

    tolerance = TOLERANCE[dtype]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)
    for name, gradient in expected_weights.items():
        actual = found_weights["model." + name]
        torch.testing.assert_close(actual, gradient, atol=tolerance, rtol=tolerance)


class _WithMasks(torch.nn.Module):
    """A network under fixed masks, called as torch's own are."""

    def __init__(self, model: Recurrent, masks: Masks) -> None:
        super().__init__()
        self.model, self.masks = model, masks

    def forward(
        self, x: torch.Tensor, state: torch.Tensor | tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, torch.Tensor]]:
        result: tuple[torch.Tensor, torch.Tensor | tuple[torch.Tensor, torch.Tensor]]
        result = self.model(x, None, state, masks=self.masks)
        return result


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize(("case", "method"), methods_for(IN_TORCH, METHODS), ids=str)
def test_evaluation_of_every_method_but_zoneout_is_the_plain_network(
    case: Case, method: str, dtype: torch.dtype
) -> None:
    if method.startswith("zoneout"):
        return
    model = case.build(*regularizers(method), dtype=dtype).eval()
    plain = case.build_torch(dtype)
    plain.load_state_dict(model.state_dict())
    x, state = inputs(dtype=dtype), initial_state(model)

    output, final = model(x, None, packed(state))

    expected, expected_final = plain(x, packed(state))
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(output, expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(final, expected_final, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "certain",
    [
        (Zaremba(1.0),),
        (Zaremba(1.0, granularity="sequence"),),
        (RNNDrop(1.0),),
        (Variational(1.0),),
        (Variational(1.0, tied=False),),
        (WeightDrop(1.0),),
        (Semeniuta(1.0),),
        (Semeniuta(1.0, granularity="sequence"),),
        (Zoneout(cell=1.0, hidden=1.0),),
    ],
    ids=str,
)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda case: case.flavour)
def test_dropping_everything_gives_finite_numbers_and_gradients(
    flavour: Case, directions: int, layers: int, certain: tuple[Regularizer, ...]
) -> None:
    if flavour.cell == "rnn" and isinstance(certain[0], Semeniuta):
        return
    model = flavour._replace(layers=layers, directions=directions).build(*certain)

    output, state = model(inputs())
    (output.sum() + sum(part.sum() for part in unpacked(state))).backward()

    assert output.isfinite().all()
    assert all(part.isfinite().all() for part in unpacked(state))
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda case: case.flavour)
def test_one_row_of_one_step_through_one_unit(flavour: Case, directions: int, method: str) -> None:
    if not methods_for([flavour], [method]):
        return
    case = flavour._replace(layers=2, directions=directions)
    model = case.build(*regularizers(method), hidden_size=1)
    state = initial_state(model, batch=1)

    output, final = model(inputs(batch=1, time=1), None, packed(state))
    output.sum().backward()

    assert output.shape == (1, 1, directions)
    assert all(part.shape == (2 * directions, 1, 1) for part in unpacked(final))
    assert output.isfinite().all()


def test_a_state_dict_goes_both_ways() -> None:
    for case in IN_TORCH:
        ours, plain = case.build(Zaremba(0.5)), case.build_torch()
        assert {name: weight.shape for name, weight in ours.state_dict().items()} == {
            name: weight.shape for name, weight in plain.state_dict().items()
        }
        plain.load_state_dict(ours.state_dict())
        ours.load_state_dict(plain.state_dict())


def test_time_first_is_the_same_network_transposed() -> None:
    case = Case("lstm", layers=2, directions=2)
    batch_first, time_first = case.build(), case.build(batch_first=False)
    x = inputs()

    output, state = batch_first(x)

    turned, turned_state = time_first(x.transpose(0, 1))
    assert turned.transpose(0, 1).equal(output)
    assert all(a.equal(b) for a, b in zip(unpacked(turned_state), unpacked(state), strict=True))
    assert output.shape == (3, 5, 2 * HIDDEN)
    assert x.shape[-1] == INPUT


@pytest.mark.parametrize("case", IN_TORCH, ids=str)
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_evaluation_is_one_call_of_torchs_kernel(
    case: Case, ragged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = case.build(WeightDrop(0.5)).eval()
    lengths = torch.tensor([5, 2, 3]) if ragged else None
    absent = Masks(tuple((LayerMasks(),) * case.directions for _ in range(case.layers)))
    expected, expected_state = model(inputs(), lengths, masks=absent)
    monkeypatch.setattr("tidegate.train.recurrent_layers.run_layer", None)

    output, state = model(inputs(), lengths)

    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(state, expected_state, atol=1e-12, rtol=0)
