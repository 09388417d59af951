"""The parity gate: no file leaves before ONNX Runtime agrees with PyTorch.

Both run the same drawn inputs, at the training data's own scale, over lengths
of 1, 7 and 200 steps, batches of 1 and 5, full and ragged rows, from the
initial state and from a drawn one. PyTorch runs in float64: over 200 steps some
networks amplify a rounding of float32 beyond the limit, and what is asked is
how far the file is from the network, not how far both are from each other.

A float16 file has the same bar on the CPU, where ONNX Runtime computes in float32. What
its arithmetic costs on a GPU is measured on PyTorch's own, in the same cases.
"""

import copy
import itertools
import os
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

# ONNX Runtime reports usage unless told not to, and first looks while it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tidegate.train.export import limits
from tidegate.train.export.forecasting import run_forecaster
from tidegate.train.export.half_arithmetic import computes_in_half, with_half_arithmetic
from tidegate.train.export.labelling import draw_characters, run_labeller
from tidegate.train.export.language_model import OUTPUT, run_language_model
from tidegate.train.export.mc_masks import mask_values
from tidegate.train.export.spec import networks_of
from tidegate.train.forecaster import Forecaster
from tidegate.train.labeller import Labeller
from tidegate.train.language_model import LanguageModel
from tidegate.train.recurrent import Recurrent
from tidegate.train.recurrent_inputs import as_torch_state, state_tensors
from tidegate.v1 import model_spec_pb2 as pb

TIMES = (1, 7, 200)
BATCHES = (1, 5)
Arrays = dict[str, NDArray[Any]]

Provider = Literal["cpu", "cuda"]

_PROVIDERS: dict[Provider, list[str | tuple[str, dict[str, str]]]] = {
    "cpu": ["CPUExecutionProvider"],
    # TF32, on by default, keeps 10 bits of each factor.
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],
}


class ParityError(ValueError):
    """ONNX Runtime and PyTorch disagree."""


class Case(NamedTuple):
    """One comparison."""

    time: int
    batch: int
    ragged: bool
    with_state: bool

    def __str__(self) -> str:
        rows = "ragged" if self.ragged else "full"
        state = "a drawn" if self.with_state else "the initial"
        return f"time={self.time}, batch={self.batch}, {rows} rows, {state} state"


def measure_parity(
    model: nn.Module, spec: pb.ModelSpec, file: bytes, provider: Provider = "cpu"
) -> pb.Parity:
    """Runs every case and returns the largest differences.

    Args:
        model: in evaluation mode, on the CPU; stays as it is.
        spec: of the file.
        file: the serialized ONNX model.
        provider: on which ONNX Runtime runs it; "cuda" without TF32.

    Raises:
        ParityError: a difference is over the limit; names the output and the case.
        ValueError: the provider does not work here.
    """
    session = _session(file, provider)
    exact = copy.deepcopy(model).double()
    network = networks_of(exact)[0]
    in_half = spec.weights == "float16" and computes_in_half(model)
    halved = with_half_arithmetic(model) if in_half else None
    # On the CPU ONNX Runtime computes in float32, and two Casts cancel.
    rounding = limits.HALF if in_half and provider == "cuda" else 0.0
    generator = torch.Generator().manual_seed(0)
    comparison = _Comparison(spec)
    for number, case in enumerate(_cases(spec)):
        inputs = _draw(model, spec, case, generator)
        masks: Arrays = {}
        if spec.masks:
            network.sample = number
            masks |= mask_values(network, network.sampled_masks(number, case.batch))
        names = [output.name for output in spec.outputs]
        found = dict(zip(names, session.run(names, inputs | masks), strict=True))
        expected = _run_torch(exact, inputs, found, torch.float64, rounding)
        real = np.arange(case.time) < inputs["lengths"][:, None]
        comparison.add(case, real, expected, found, rounding)
        if halved is not None:
            rounded = _run_torch(halved, inputs, found, torch.float32, limits.HALF)
            comparison.add(case, real, expected, rounded, limits.HALF, of="PyTorch in float16")
    return comparison.parity


class _Comparison:
    """The largest differences so far.

    Args:
        spec: of the file.

    Attributes:
        parity: what is measured.
    """

    def __init__(self, spec: pb.ModelSpec) -> None:
        self.parity = pb.Parity()
        self._spec = spec
        self._timed = {output.name for output in spec.outputs if "time" in output.axes}

    def add(
        self,
        case: Case,
        real: NDArray[np.bool_],
        expected: Arrays,
        found: Arrays,
        rounding: float,
        *,
        of: str = "",
    ) -> None:
        """Compares one case's outputs.

        Args:
            case: the case.
            real: steps that are no padding, [batch, time].
            expected: the network's outputs.
            found: those compared with them.
            rounding: of their arithmetic; see :func:`limits.limit_of`.
            of: whose they are; empty: the file's in ONNX Runtime.

        Raises:
            ParityError: one is over the limit.
        """
        parity = self.parity
        parity.cases += not of
        for name, reference in expected.items():
            outcome = found[name]
            if name in self._timed:
                reference, outcome = reference[real], outcome[real]
            limit = limits.limit_of(self._spec, name, reference, rounding)
            difference = np.abs(outcome.astype(np.float64) - reference)
            # NaN is over any limit.
            if not (difference <= limit).all():
                remedy = "Export float32, or check" if rounding else "Check"
                raise ParityError(
                    f"output {name!r} differs between PyTorch and {of or 'ONNX Runtime'} by "
                    f"{np.max(difference):.3g} at {case}; the limit is {np.max(limit):.3g}. "
                    f"{remedy} the weights for values that are not finite or very large."
                )
            absolute = float(difference.max())
            if absolute >= parity.max_absolute_error:
                parity.max_absolute_error = absolute
                parity.largest_at = f"{name}, {case}" + f", {of}" * bool(of)
            relative = (difference / np.maximum(limits.magnitude_of(name, reference), 1.0)).max()
            parity.max_relative_error = max(parity.max_relative_error, float(relative))


def _session(file: bytes, provider: Provider) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The server's level. With the last one ONNX Runtime 1.31 ends the process that loads an
    # LSTM or GRU whose inputs are the graph's own in float16.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_LAYOUT
    session = onnxruntime.InferenceSession(file, options, providers=_PROVIDERS[provider])
    # ONNX Runtime falls back to the CPU without raising.
    if provider == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ValueError("provider='cuda' does not work here: ONNX Runtime finds no CUDA device")
    return session


def _cases(spec: pb.ModelSpec) -> Iterator[Case]:
    states = (False, True) if spec.states else (False,)
    yield from itertools.starmap(Case, itertools.product(TIMES, BATCHES, (False, True), states))


def _draw(model: nn.Module, spec: pb.ModelSpec, case: Case, generator: torch.Generator) -> Arrays:
    lengths = torch.full((case.batch,), case.time)
    if case.ragged:
        lengths = torch.randint(1, case.time + 1, (case.batch,), generator=generator)
    values = _example(model, case, generator).numpy()
    first = spec.inputs[0]
    # Padding holds values too. Not NaN: ONNX Runtime's GRU keeps its state on NaN,
    # which would hide that lengths are not used.
    inputs: Arrays = {
        first.name: values.astype(first.dtype),
        "lengths": lengths.numpy().astype(np.int32),
    }
    inputs |= draw_characters(model, case.batch, case.time, generator)
    for state in spec.states:
        shape = [case.batch if axis == -1 else axis for axis in state.shape]
        inputs[state.input] = np.full(shape, state.initial_value, np.float32)
        if case.with_state and state.input in ("h", "c", "reads"):
            inputs[state.input] = torch.empty(shape).uniform_(-1, 1, generator=generator).numpy()
        elif case.with_state:
            before = values[None, :, 0] if values.shape[1] == 1 else values[None, :, 1]
            inputs[state.input] = before.astype(np.float32)
    return inputs


def _example(model: nn.Module, case: Case, generator: torch.Generator) -> Tensor:
    if isinstance(model, Forecaster | Labeller | LanguageModel):
        return model.example(case.batch, case.time, generator)
    if not isinstance(model, Recurrent):
        raise TypeError(f"model is a {type(model).__name__}; no example can be drawn for it")
    return torch.randn(case.batch, case.time, model.input_size, generator=generator)


def _run_torch(
    model: nn.Module, inputs: Arrays, found: Arrays, dtype: torch.dtype, rounding: float
) -> Arrays:
    """The model's own outputs for inputs of a precision, by the names of the graph's.

    Args:
        model: that runs.
        inputs: the graph's.
        found: the graph's outputs, which choose between equals.
        dtype: of the inputs.
        rounding: of the scores of labels, besides that of float32.
    """
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    if isinstance(model, Labeller):
        with torch.no_grad():
            return run_labeller(model, tensors, found, rounding)
    lengths = tensors.pop("lengths").long()
    first, *states = tensors.values()
    with torch.no_grad():
        if isinstance(model, Forecaster):
            results, new = run_forecaster(model, first, lengths, tuple(states), found)
        elif isinstance(model, LanguageModel):
            output, new = run_language_model(model, first, lengths, tuple(states))
            results = {OUTPUT: output}
        else:
            output, new = model(first, lengths, as_torch_state(tuple(states)))
            results, new = {"output": output}, state_tensors(new)
    named = zip(list(tensors)[1:], new, strict=True)
    results |= {f"{state}_next": value for state, value in named}
    return {name: value.numpy() for name, value in results.items()}
