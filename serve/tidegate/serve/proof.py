"""A forecaster is tried before it serves: its promises are measured, not believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tidegate.serve.session import Session
    from tidegate.serve.spec import StateLayout
    from tidegate.v1 import model_spec_pb2 as pb

_ROWS = 5
# Far above rounding (measured: 0), far below what a wrong state changes.
_TOLERANCE = 1e-3
# Of float16 a rounding is as large; so many of them are still far below.
_ROUNDINGS = 16


def prove_streaming(session: Session, spec: pb.ModelSpec, states: Sequence[StateLayout]) -> None:
    """Compares rows that come one by one with the same rows at once.

    They agree only if no output looks at later rows, and each declared state
    output is what its state input expects.

    Raises:
        LoadError: They do not agree.
    """
    rows = _typical_rows(spec)
    carried = {
        state.input: np.full((state.layers, 1, state.width), state.initial_value, state.dtype)
        for state in states
    }
    whole = session.run({"x": rows[None], "lengths": np.array([_ROWS], np.int32), **carried})
    one = np.ones(1, np.int32)
    for step, row in enumerate(rows):
        outputs = session.run({"x": row[None, None], "lengths": one, **carried})
        carried = {state.input: outputs[state.output] for state in states}
        _compare(
            f"forecast at step {step}", outputs["quantiles"][0, 0], whole["quantiles"][0, step]
        )
    for state in states:
        _compare(f"state {state.output!r}", carried[state.input], whole[state.output])


def _typical_rows(spec: pb.ModelSpec) -> NDArray[Any]:
    """Rows of the size that the model was trained on, [rows, features]."""
    forecast = spec.forecast
    count = len(forecast.features)
    noise = np.random.default_rng(0).normal(size=(_ROWS, count))
    scale, center = list(forecast.scaler.scale), list(forecast.scaler.center)
    if len(scale) == count:
        noise *= scale
    if len(center) == count:
        noise += center
    (x,) = (one for one in spec.inputs if one.name == "x")
    return noise.astype(x.dtype)


def _compare(what: str, stepped: NDArray[Any], whole: NDArray[Any]) -> None:
    size = max(1.0, float(np.nanmax(np.abs(whole), initial=0)))
    tolerance = max(_TOLERANCE, _ROUNDINGS * float(np.finfo(whole.dtype).eps)) * size
    if not np.allclose(stepped, whole, rtol=0, atol=tolerance, equal_nan=True):
        error = float(np.nanmax(np.abs(stepped - whole)))
        raise LoadError(
            f"the graph cannot be streamed: {what} differs by {error:.3g} between rows sent one "
            "by one and all at once; it looks ahead, or its states are paired wrongly"
        )
