"""What exporting costs, and what a file costs: ``make bench-export``.

Time of an export with all its gates, size of the file over that of the weights,
and one step of a 2x128 GRU over a graph made by hand with only the GRU operators
and the output product.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import export_int8
import export_zoneout
import numpy as np
import onnx
import onnxruntime
import torch
from export_measure import interleaved, medians, ratios
from onnx import helper, numpy_helper
from torch import nn

from tidegate.train import Forecaster, Labeller, Recurrent, Variational, Zoneout, export_onnx
from tidegate.train.export.weights import operator_weights
from tidegate.train.recurrent import CellName
from tidegate.train.scaler import StandardScaler

FEATURES, HIDDEN, HORIZON = 3, 128, 24
BATCHES = (1, 32)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=301)
    options = parser.parse_args()
    # As the server: small networks gain nothing from more.
    torch.set_num_threads(1)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, onnx {version('onnx')}, onnxruntime {onnxruntime.__version__}, one "
        f"thread, medians of up to {options.rounds} rounds"
    )
    report_files()
    report_step(options.rounds)
    export_zoneout.report(options.rounds)
    export_int8.report()


def report_files() -> None:
    """Prints the time of an export and the size of its file."""
    models: dict[str, nn.Module] = {
        "forecaster, GRU 2x128": forecaster("gru"),
        "forecaster, GRU 2x128, zoneout": forecaster("gru", regularizers=[Zoneout(0.3, 0.2)]),
        "forecaster, LSTM 2x128": forecaster("lstm"),
        "labeller, BiLSTM 2x128, 5000 words": labeller(),
        "forecaster, GRU 2x8": forecaster("gru", hidden=8),
    }
    print(
        "\n| model | export, s | file, KiB | weights, KiB | file / weights |\n|---|---|---|---|---|"
    )
    for name, model in models.items():
        seconds, size = exported_in(model)
        weights = 4 * sum(parameter.numel() for parameter in model.parameters())
        print(
            f"| {name} | {seconds:.2f} | {size / 1024:.1f} | {weights / 1024:.1f} | "
            f"{size / weights:.3f} |"
        )


def exported_in(model: nn.Module) -> tuple[float, int]:
    """Median seconds of three exports, and bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path, seconds = Path(folder) / "model.onnx", []
        for _ in range(3):
            begin = time.perf_counter()
            export_onnx(model, path)
            seconds.append(time.perf_counter() - begin)
        return median(seconds), path.stat().st_size


def report_step(rounds: int) -> None:
    """Prints one step of exported files over that of a graph made by hand."""
    hand = session(made_by_hand(forecaster("gru")))
    files = {
        "network alone": session(exported(forecaster("gru").recurrent)),
        "one quantile": session(exported(forecaster("gru", quantile_levels=(0.5,)))),
        "three quantiles": session(exported(forecaster("gru"))),
        "three quantiles of changes": session(exported(forecaster("gru", differenced=True))),
    }
    print("\nOne step of a 2x128 GRU over operators and output product alone\n")
    print("| B | by hand, us |", " | ".join(files), "|\n|" + "---|" * (2 + len(files)))
    for batch in BATCHES:
        runs = {"hand": step(hand, batch)}
        runs |= {name: step(file, batch) for name, file in files.items()}
        seconds = interleaved(runs, rounds)
        over = ratios(seconds, "hand")
        cells = " | ".join(f"{over[name]:.2f}" for name in files)
        print(f"| {batch} | {1e6 * medians(seconds)['hand']:.1f} | {cells} |")


def step(run: onnxruntime.InferenceSession, batch: int) -> Callable[[], object]:
    """A run of one time step on drawn inputs."""
    free, rng, feeds = {"batch": batch, "time": 1}, np.random.default_rng(0), {}
    for tensor in run.get_inputs():
        shape = [free[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
        values = rng.uniform(0.1, 1, shape).astype(np.float32)
        feeds[tensor.name] = np.ones(batch, np.int32) if tensor.name == "lengths" else values
    return lambda: run.run(None, feeds)


def forecaster(
    cell: CellName,
    *,
    hidden: int = HIDDEN,
    differenced: bool = False,
    quantile_levels: tuple[float, ...] = (0.1, 0.5, 0.9),
    regularizers: list[Zoneout] | None = None,
) -> Forecaster:
    """Three features in, one target 24 steps ahead."""
    torch.manual_seed(0)
    names = ("level", "temperature", "load")
    walk = np.random.default_rng(0).normal(size=(500, FEATURES)).cumsum(axis=0)
    return Forecaster(
        Recurrent(cell, FEATURES, hidden, 2, regularizers=regularizers or []),
        features=names,
        targets=names[:1],
        horizon=HORIZON,
        quantile_levels=quantile_levels,
        scaler=StandardScaler.fit(walk, (True,) * FEATURES if differenced else ()),
        frequency="h",
    ).eval()


def labeller() -> Labeller:
    """Seventeen labels over five thousand words."""
    torch.manual_seed(0)
    words = ("<pad>", "<unk>", *(f"word{index}" for index in range(4998)))
    network = Recurrent("lstm", 64, HIDDEN, 2, bidirectional=True, regularizers=[Variational(0.2)])
    labels = [f"L{index}" for index in range(17)]
    return Labeller(network, words=words, label_names=labels, embedding_size=64).eval()


def exported(model: nn.Module) -> bytes:
    """The file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, Path(folder) / "model.onnx")
        return (Path(folder) / "model.onnx").read_bytes()


def session(file: bytes) -> onnxruntime.InferenceSession:
    """On one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def made_by_hand(model: Forecaster) -> bytes:
    """Time-major x and a state for each layer in; the product and the next states out."""
    network, float32 = model.recurrent, onnx.TensorProto.FLOAT
    nodes, weights = [], {"axis": np.array([1])}
    inputs = [helper.make_tensor_value_info("x", float32, ["time", "batch", FEATURES])]
    outputs = [helper.make_tensor_value_info("out", float32, ["time", "batch", "values"])]
    value = "x"
    for layer in range(network.num_layers):
        names = [f"{name}{layer}" for name in "WRB"]
        found = operator_weights("gru", network.weights(layer, 0))
        weights |= {name: array[None] for name, array in zip(names, found, strict=True)}
        state: list[int | str | None] = [1, "batch", HIDDEN]
        inputs.append(helper.make_tensor_value_info(f"h{layer}", float32, state))
        outputs.append(helper.make_tensor_value_info(f"h{layer}_next", float32, state))
        nodes.append(
            helper.make_node(
                "GRU",
                [value, *names, "", f"h{layer}"],
                [f"Y{layer}", f"h{layer}_next"],
                hidden_size=HIDDEN,
                linear_before_reset=1,
            )
        )
        value = f"y{layer}"
        nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "axis"], [value]))
    weights |= {
        "head": model.head.linear.weight.detach().numpy().T,
        "bias": model.head.linear.bias.detach().numpy(),
    }
    nodes.append(helper.make_node("MatMul", [value, "head"], ["product"]))
    nodes.append(helper.make_node("Add", ["product", "bias"], ["out"]))
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(array), name)
        for name, array in weights.items()
    ]
    graph = helper.make_graph(nodes, "by_hand", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    content: bytes = made.SerializeToString()
    return content


if __name__ == "__main__":
    main()
