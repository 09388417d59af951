"""ONNX Runtime, behind one class; no other file loads it."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

# ONNX Runtime reports usage unless told not to, and first looks while it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from tidegate.serve.binding import DeviceState, DeviceTensor, run_bound
from tidegate.serve.errors import LoadError
from tidegate.serve.spec import METADATA_KEY, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tidegate.serve.settings import Provider

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
# Zoneout runs as a Scan; the others as the plain operator.
RECURRENT_OPERATORS = frozenset({"LSTM", "GRU", "RNN", "Scan"})

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
# 4 is FATAL: what fails is raised, and a provider that is missing is no error under "auto".
_LOG_SEVERITY = 4

onnxruntime.disable_telemetry_events()
onnxruntime.set_default_logger_severity(_LOG_SEVERITY)


class Session:
    """One loaded graph.

    Attributes:
        inputs: The graph's inputs.
        outputs: The graph's outputs, in the order in which `run` returns them.
        provider: Name of the execution provider of the recurrent operators; in a
            graph without any, of all operators.
        operators: Operator types of the graph as it runs, by provider.

    Args:
        content: The bytes of an ONNX file.
        provider: "cuda" insists, "auto" takes CUDA where it works.
        threads: Threads within one run.
        tf32: Whether CUDA may round the inputs of matrix products to 10 bits.

    Raises:
        LoadError: Not a graph that ONNX Runtime can run on that provider.
    """

    def __init__(
        self,
        content: bytes,
        provider: Provider = "cpu",
        threads: int = 1,
        *,
        tf32: bool = False,
    ) -> None:
        tries_cuda = provider == "cuda" or (provider == "auto" and _has_cuda_driver())
        if tries_cuda:
            # Finds the CUDA libraries that pip installed, when there are any. It
            # prints what it misses, and standard output is for the address.
            with redirect_stdout(sys.stderr):
                onnxruntime.preload_dlls()
        self._session = _create(content, providers(cuda=tries_cuda, tf32=tf32), threads)
        self.operators = _operators_by_provider(self._session)
        self.provider = _provider(self.operators)
        self._device = "cuda" if self.provider == CUDA else "cpu"
        if provider == "cuda" and self.provider != CUDA:
            raise LoadError(
                "provider cuda was asked for, but ONNX Runtime runs recurrent operators on "
                f"{self.provider}: install a CUDA driver and onnxruntime-gpu[cuda,cudnn], "
                "or use --provider cpu"
            )
        self.inputs = tuple(_tensor(argument) for argument in self._session.get_inputs())
        self.outputs = tuple(_tensor(argument) for argument in self._session.get_outputs())
        self._output_names = [tensor.name for tensor in self.outputs]

    @property
    def spec_text(self) -> str:
        """The JSON of the ModelSpec stored in the file.

        Raises:
            LoadError: The file has none.
        """
        metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise LoadError(
                f"the ONNX file has no metadata {METADATA_KEY!r}: write it with "
                "tidegate.train.export_onnx"
            )
        return metadata[METADATA_KEY]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the graph once and returns its outputs by name; may be called from any thread.

        Args:
            feeds: The inputs by name: arrays, or a `DeviceState`, whose output is
                then a `DeviceTensor`. All other outputs are arrays.
        """
        states = {n: feed for n, feed in feeds.items() if isinstance(feed, DeviceState)}
        if states:
            tensors = {name: state.tensor for name, state in states.items()}
            return self.run_bound({**feeds, **tensors}, {s.output: None for s in states.values()})
        values = self._session.run(None, feeds)
        return dict(zip(self._output_names, values, strict=True))

    def run_bound(
        self,
        feeds: Mapping[str, NDArray[Any] | DeviceTensor],
        into: Mapping[str, DeviceTensor | None],
    ) -> dict[str, Any]:
        """Like `run`, where some outputs stay on the device; see `binding.run_bound`."""
        return run_bound(self._session, self._device, feeds, self._output_names, into)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceTensor:
        """A tensor on the device, not yet written."""
        create = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        return DeviceTensor(create(shape, dtype.type, self._device, 0))

    def timed_run(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """Like `run`, with the seconds that it took."""
        begin = time.perf_counter()
        outputs = self.run(feeds)
        return outputs, time.perf_counter() - begin

    def warm_up(self) -> None:
        """Runs the graph once on zeros, one row of one sequence.

        Raises:
            LoadError: The graph fails on them.
        """
        feeds = {
            tensor.name: np.zeros([1 if size is None else size for size in tensor.shape], dtype)
            for tensor in self.inputs
            for dtype in [np.dtype(tensor.dtype)]
        }
        feeds["lengths"] = np.ones(1, np.int32)
        try:
            self.run(feeds)
        except Exception as error:
            raise LoadError(f"the first run of the graph failed: {error}") from error


def providers(*, cuda: bool, tf32: bool) -> list[str | tuple[str, dict[str, str]]]:
    """The providers to try, in order, with their options as ONNX Runtime takes them."""
    # ONNX Runtime's own default is TF32, with which no file keeps its parity.
    return [(CUDA, {"use_tf32": str(int(tf32))}), CPU] if cuda else [CPU]


def _has_cuda_driver() -> bool:
    """Whether NVIDIA's driver is installed; without it CUDA cannot work."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _create(
    content: bytes, providers: list[str | tuple[str, dict[str, str]]], threads: int
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_SEVERITY
    # One level below all: with the last, ONNX Runtime 1.31 ends the process that loads an LSTM
    # or GRU in float16 on the CPU. It changes nothing in the graphs of float32 files.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_LAYOUT
    # Idle threads must not spin: streams pause between observations.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        # Its fallback would print, and go on without the provider that was asked for.
        return onnxruntime.InferenceSession(
            content, options, providers=providers, enable_fallback=False
        )
    except Exception as error:
        # ONNX Runtime's own exceptions share no base class but Exception.
        raise LoadError(f"ONNX Runtime cannot load the file: {error}") from error


def _operators_by_provider(session: onnxruntime.InferenceSession) -> dict[str, set[str]]:
    operators: dict[str, set[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        types = {node.op_type for node in subgraph.get_nodes()}
        operators.setdefault(subgraph.ep_name, set()).update(types)
    return operators


def _provider(operators: dict[str, set[str]]) -> str:
    """CUDA only when every LSTM, GRU and RNN node is there, or every node where none is one."""
    recurrent = {name for name, types in operators.items() if types & RECURRENT_OPERATORS}
    return CUDA if (recurrent or set(operators)) == {CUDA} else CPU


def _tensor(argument: onnxruntime.NodeArg) -> Tensor:
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return Tensor(argument.name, _DTYPES.get(argument.type, argument.type), shape)
