"""Masks of Monte Carlo inference as inputs: the caller draws networks, the graph draws nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from support.models import (
    FLAVOURS,
    Session,
    character_labeller,
    segmented_forecaster,
    small_forecaster,
    small_recurrent,
)
from support.trained import trained_language_model
from tidegate.serve.errors import LoadError
from tidegate.serve.model import load_model
from tidegate.serve.settings import Settings
from tidegate.train import (
    Labeller,
    LanguageModel,
    Recurrent,
    RNNDrop,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    export_onnx,
)
from tidegate.train.__main__ import main
from tidegate.train.accuracy import build_mc_judge
from tidegate.train.export import check_file
from tidegate.train.export.contract import census
from tidegate.train.export.mc_masks import mask_values
from tidegate.train.inference import sampled_networks
from tidegate.train.regularizers import Regularizer, Semeniuta

WORDS = ("<unk>", "open", "close", "the", "gate")
INPUTS_ONLY = Variational(0.3, hidden_p=0.0, output_p=0.2)
BATCH, TIME = 3, 9


def labeller(**arguments: Any) -> Labeller:
    torch.manual_seed(2)
    network = Recurrent("lstm", 5, 8, 2, bidirectional=True, regularizers=[Variational(0.3)])
    return Labeller(
        network, words=("<pad>", *WORDS), label_names=("A", "B"), embedding_size=5, **arguments
    ).eval()


MODELS: dict[str, nn.Module] = {
    **{
        f"{cell} reset_after={after}": small_recurrent(
            cell, num_layers=2, reset_after=after, regularizers=[Variational(0.3)]
        )
        for cell, after in FLAVOURS
    },
    "inputs and output": small_recurrent(num_layers=2, regularizers=[INPUTS_ONLY]),
    "zaremba": small_recurrent(regularizers=[Zaremba(0.4, granularity="sequence")]),
    "with zoneout": small_recurrent(
        "lstm", regularizers=[Variational(0.3), Zoneout(cell=0.3, hidden=0.2)]
    ),
    "sum of directions": small_recurrent(
        bidirectional=True, merge="sum", regularizers=[INPUTS_ONLY]
    ),
    "forecaster": small_forecaster(regularizers=[Variational(0.3)]),
    "forecaster, inputs": small_forecaster("lstm", regularizers=[INPUTS_ONLY]),
    "labeller": labeller(),
    "language model": LanguageModel(
        small_recurrent("lstm", regularizers=[Variational(0.3)]), vocabulary=WORDS, embedding_size=3
    ),
}


def feeds(spec: Any) -> dict[str, np.ndarray]:
    """Drawn inputs and initial states; no masks."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    states = {one.input: one.initial_value for one in spec.states}
    masks = {one.input for one in spec.masks}
    for tensor in spec.inputs:
        free = {"batch": BATCH, "time": TIME}
        shape = [free[a] if n < 0 else n for n, a in zip(tensor.shape, tensor.axes, strict=True)]
        if tensor.name == "lengths":
            found[tensor.name] = np.full(BATCH, TIME, np.int32)
        elif tensor.name == "tokens":
            found[tensor.name] = rng.integers(0, 5, shape)
        elif tensor.name in states:
            found[tensor.name] = np.full(shape, states[tensor.name], np.float32)
        elif tensor.name not in masks:
            found[tensor.name] = rng.normal(size=shape).astype(np.float32)
    return found


def ones(spec: Any) -> dict[str, np.ndarray]:
    widths = {one.name: one.shape[-1] for one in spec.inputs}
    return {one.input: np.ones((BATCH, widths[one.input]), np.float32) for one in spec.masks}


@pytest.mark.parametrize("kind", MODELS)
def test_the_trainers_masks_give_the_trainers_samples_and_nothing_in_the_graph_is_random(
    kind: str, tmp_path: Path
) -> None:
    # The gate of the export runs a sampled network in each of its cases.
    spec = export_onnx(MODELS[kind].eval(), tmp_path / "m.onnx", mc_masks=True)
    assert spec.masks
    assert spec.parity.cases >= 12
    found = census(onnx.load(tmp_path / "m.onnx"))
    assert not any(name.startswith("Random") or name in ("Dropout", "Bernoulli") for name in found)
    assert check_file(tmp_path / "m.onnx", MODELS[kind]).parity.cases == spec.parity.cases


@pytest.mark.parametrize("kind", MODELS)
def test_masks_of_ones_give_the_plain_file(kind: str, tmp_path: Path) -> None:
    export_onnx(MODELS[kind].eval(), tmp_path / "plain.onnx")
    spec = export_onnx(MODELS[kind], tmp_path / "m.onnx", mc_masks=True)
    inputs = feeds(spec)
    plain = Session(tmp_path / "plain.onnx").run(inputs)
    found = Session(tmp_path / "m.onnx").run(inputs | ones(spec))
    has_operator = not census(onnx.load(tmp_path / "m.onnx"))["Scan"]
    for name, value in plain.items():
        if has_operator:
            np.testing.assert_array_equal(found[name], value)
        else:
            np.testing.assert_allclose(found[name], value, atol=2e-6, rtol=1e-5)


def test_a_caller_with_numpy_and_onnx_runtime_gets_the_samples_of_the_trainer(
    tmp_path: Path,
) -> None:
    model = small_forecaster(regularizers=[Variational(0.3)])
    spec = export_onnx(model, tmp_path / "m.onnx", mc_masks=True)
    session, inputs = Session(tmp_path / "m.onnx"), feeds(spec)
    different = []
    for number in sampled_networks(model, 3):
        network = model.recurrent
        masks = mask_values(network, network.sampled_masks(number, BATCH))
        found = session.run(inputs | masks)["quantiles"]
        with torch.no_grad():
            expected = model(torch.from_numpy(inputs["x"]))[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
        different.append(found)
    assert not np.allclose(different[0], different[1])


def test_the_spec_says_how_to_draw_each_mask(tmp_path: Path) -> None:
    model = small_recurrent("lstm", num_layers=2, regularizers=[Variational(0.2, hidden_p=0.5)])
    spec = export_onnx(model, tmp_path / "m.onnx", mc_masks=True)
    names = ["input_l0", "hidden_l0", "input_l1", "hidden_l1", "output"]
    assert [one.input for one in spec.masks] == [f"mask_{name}" for name in names]
    shapes = {one.name: (list(one.shape), list(one.axes)) for one in spec.inputs}
    assert shapes["mask_input_l0"] == ([-1, 3], ["batch", "units"])
    assert shapes["mask_hidden_l1"] == ([-1, 8], ["batch", "units"])
    kept = {one.input: (one.keep_probability, one.scale) for one in spec.masks}
    assert kept["mask_input_l0"] == pytest.approx((0.8, 1.25))
    assert kept["mask_hidden_l0"] == pytest.approx((0.5, 2.0))


def test_masks_outside_the_recurrence_leave_the_plain_operators(tmp_path: Path) -> None:
    export_onnx(MODELS["inputs and output"].eval(), tmp_path / "m.onnx", mc_masks=True)
    found = census(onnx.load(tmp_path / "m.onnx"))
    assert (found["GRU"], found["Scan"]) == (2, 0)
    export_onnx(MODELS["gru reset_after=True"].eval(), tmp_path / "m.onnx", mc_masks=True)
    found = census(onnx.load(tmp_path / "m.onnx"))
    assert (found["GRU"], found["Scan"]) == (0, 2)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (RNNDrop(0.2), "rnndrop: its masks are on weights"),
        (WeightDrop(0.2), "weight_drop: its masks are on weights"),
        (Semeniuta(0.2, granularity="sequence"), "semeniuta: its masks are on weights"),
        (Variational(0.2, tied=False), "a product, for each gate"),
        (Zaremba(0.2), "nothing to sample"),
        (Zoneout(0.2, 0.1), "nothing to sample"),
        (Variational(0.0), "nothing to sample"),
    ],
)
def test_a_method_whose_masks_cannot_be_inputs_is_refused(
    method: Regularizer, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        export_onnx(
            small_recurrent("lstm", regularizers=[method]), tmp_path / "m.onnx", mc_masks=True
        )
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_rows_are_not_those_of_the_batch_is_refused(tmp_path: Path) -> None:
    segments = segmented_forecaster(regularizers=[Variational(0.2)])
    characters = character_labeller(regularizers=[Variational(0.2)])
    with pytest.raises(ValueError, match="a forecaster of segments"):
        export_onnx(segments, tmp_path / "m.onnx", mc_masks=True)
    with pytest.raises(ValueError, match="a network over characters"):
        export_onnx(characters, tmp_path / "m.onnx", mc_masks=True)


def test_the_server_refuses_the_file_and_says_what_to_serve(tmp_path: Path) -> None:
    export_onnx(MODELS["forecaster"].eval(), tmp_path / "m.onnx", mc_masks=True)
    with pytest.raises(LoadError, match="exported without --mc-masks"):
        load_model("m", "1", tmp_path / "m.onnx", Settings(provider="cpu"))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    method = {"name": "variational", "p": 0.2}
    return trained_language_model(tmp_path, 8, epochs=2, regularizers=[method])


def test_the_command_judges_the_mean_of_sampled_networks_by_the_tasks_metric(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "mc.onnx"
    arguments = ["export", str(trained), "--output", str(output), "--mc-masks"]
    assert main([*arguments, "--weights", "int8"]) == 2
    assert "a file is one variant" in capsys.readouterr().err
    assert main(arguments) == 0
    assert ", without masks " in capsys.readouterr().out
    output.unlink()

    def spoilt(config: Any, model: nn.Module, *others: Any) -> Any:
        judge = build_mc_judge(config, model, *others)

        def after(exported: nn.Module) -> Any:
            with torch.no_grad():
                exported.get_parameter("bias")[0] += 5.0
            return judge(exported)

        return after

    monkeypatch.setattr("tidegate.train.job.exporting.build_mc_judge", spoilt)
    assert main(arguments) == 2
    assert "of the mean of 10 networks from" in capsys.readouterr().err
    assert not output.exists()
