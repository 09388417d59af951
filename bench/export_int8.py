"""Why no int8 file is offered: what dynamic quantization does to the promises of a file.

ONNX Runtime's DynamicQuantizeLSTM scales the inputs of a whole run together. Here
one row is run alone, beside seven rows five times as large, and step by step.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from tidegate.train import Recurrent, export_onnx

HIDDEN, LAYERS, INPUTS, TIME, ROWS = 256, 2, 3, 20, 8


def report() -> None:
    """Prints the largest differences of the output, which lies within -1 and 1."""
    with tempfile.TemporaryDirectory() as folder:
        exported, quantized = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        torch.manual_seed(0)
        export_onnx(Recurrent("lstm", INPUTS, HIDDEN, LAYERS), exported)
        quantize_dynamic(
            exported, quantized, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8
        )
        float32, int8 = (
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            for path in (exported, quantized)
        )
    x = np.random.default_rng(0).normal(size=(ROWS, TIME, INPUTS)).astype(np.float32)
    x[1:] *= 5
    alone = whole(int8, x[:1])
    print(f"\nint8, LSTM {LAYERS}x{HIDDEN}: largest difference of one row's output\n")
    print("| from float32 | beside larger rows | step by step |\n|---|---|---|")
    differences = (
        np.abs(alone - whole(float32, x[:1])).max(),
        np.abs(alone - whole(int8, x)[:1]).max(),
        np.abs(alone - stepped(int8, x[:1])).max(),
    )
    print("|", " | ".join(f"{one:.1e}" for one in differences), "|")


def whole(session: onnxruntime.InferenceSession, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of one run, from zero states."""
    output: NDArray[np.float32] = run(session, x, states(len(x)))[0]
    return output


def stepped(session: onnxruntime.InferenceSession, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of a run for each step."""
    carried, outputs = states(len(x)), []
    for step in range(x.shape[1]):
        output, *carried = run(session, x[:, step : step + 1], carried)
        outputs.append(output)
    return np.concatenate(outputs, axis=1)


def states(rows: int) -> list[NDArray[np.float32]]:
    """Zeros for h and c."""
    return [np.zeros((LAYERS, rows, HIDDEN), np.float32)] * 2


def run(
    session: onnxruntime.InferenceSession,
    x: NDArray[np.float32],
    carried: list[NDArray[np.float32]],
) -> list[NDArray[np.float32]]:
    """Output, h and c."""
    lengths = np.full(len(x), x.shape[1], np.int32)
    names = ["output", "h_next", "c_next"]
    feeds = {"x": x, "lengths": lengths, "h": carried[0], "c": carried[1]}
    outputs: list[NDArray[np.float32]] = session.run(names, feeds)
    return outputs
