"""Files in float16, with float16 states and inputs, are served as all others.

ONNX Runtime's CPU provider runs their recurrent operators in float32, with casts around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from google.protobuf import json_format
from onnx import helper

from support import onnx_models
from support.server import running_server
from tidegate.client import Client, ClientError
from tidegate.serve.errors import LoadError
from tidegate.serve.loading import load_content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    for cell in ("gru", "lstm"):
        whole = onnx_models.forecaster(cell)
        onnx_models.save(whole, folder, f"{cell}-whole")
        onnx_models.save(onnx_models.half(whole), folder, cell)
    return folder


@pytest.fixture(scope="module")
def half_client(halves: Path) -> Iterator[Client]:
    with running_server(halves) as target, Client(target) as client:
        yield client


def values(rows: int = 30) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_stream_of_float16_is_close_to_that_of_float32(half_client: Client, cell: str) -> None:
    rows, forecasts = values(), {}
    for name in (cell, f"{cell}-whole"):
        with half_client.stream(name, ["a"], every_step=True) as stream:
            forecasts[name] = np.concatenate(
                [stream.send("a", rows[:7]), stream.send("a", rows[7:])]
            )
    assert forecasts[cell].dtype == np.float32
    # Measured: 1.4e-3.
    np.testing.assert_allclose(forecasts[cell], forecasts[f"{cell}-whole"], atol=5e-3)
    assert (forecasts[cell] != forecasts[f"{cell}-whole"]).any()


def test_windows_and_streams_of_float16_agree(half_client: Client) -> None:
    rows = values()
    with half_client.stream("gru", ["a"]) as stream:
        last = stream.send("a", rows)
    np.testing.assert_array_equal(half_client.forecast("gru", [rows])[0], last[-1])


def test_states_take_half_the_bytes(halves: Path) -> None:
    half, whole = (onnx_models.load(halves, name) for name in ("lstm", "lstm-whole"))
    assert [state.dtype for state in half.states] == [np.float16, np.float16]
    assert 2 * sum(s.nbytes for s in half.states) == sum(s.nbytes for s in whole.states)


def test_a_checkpoint_of_float16_brings_a_series_back(half_client: Client) -> None:
    rows = values()
    with half_client.stream("lstm", ["a"], every_step=True, checkpoint_every=10) as stream:
        stream.send("a", rows[:10])
        tokens = stream.checkpoints
        expected = stream.send("a", rows[10:20])
    with half_client.stream("lstm", {"a": tokens["a"]}, every_step=True) as stream:
        np.testing.assert_array_equal(stream.send("a", rows[10:20]), expected)


def test_a_value_beyond_float16_is_refused_by_name(half_client: Client) -> None:
    rows = values(3)
    rows[1, 2] = 70_000
    reason = (
        "'feature_2': the value is inf in float16, which this model reads: it holds at most 65504"
    )
    with pytest.raises(ClientError, match=reason):
        half_client.forecast("gru", [rows])
    with half_client.stream("gru", ["a"]) as stream, pytest.raises(ClientError, match=reason):
        stream.send("a", rows)


def test_a_state_whose_next_value_has_another_type_is_refused() -> None:
    model = onnx_models.half(onnx_models.forecaster("gru"))
    (output,) = (one for one in model.graph.output if one.name == "h_next")
    (node,) = (one for one in model.graph.node if "h_next" in one.output)
    node.output[0] = "h_next_half"
    cast = helper.make_node("Cast", ["h_next_half"], ["h_next"], to=1)
    model.graph.node.append(cast)
    output.type.tensor_type.elem_type = 1
    spec = onnx_models.spec_of(model)
    for tensor in spec.outputs:
        tensor.dtype = "float32" if tensor.name == "h_next" else tensor.dtype
    onnx_models.set_spec(model, json_format.MessageToJson(spec))
    with pytest.raises(LoadError, match="state 'h' is float16, its next value float32"):
        load_content(model.SerializeToString(), "cpu", 1, tf32=False)
