"""How far a file's outputs may be from the network's own: a few roundings.

|onnx - torch| may reach ABSOLUTE + RELATIVE * the largest |torch| of the same target: a
raw value is a sum of large numbers, a few float32 roundings off. Where recurrent operators
compute in float16, HALF units more.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.train.heads import NegativeBinomialHead
from tidegate.v1 import model_spec_pb2 as pb

ABSOLUTE = 1e-5
RELATIVE = 1e-6
# Largest measured, 2 layers of 256: 1e-3 with initial weights, 4e-3 with three times those.
HALF = 1e-2

# Outputs in the units of their targets.
_BY_TARGET = frozenset({"quantiles", "loc", "scale", "mean"})
_TARGET_AXIS = 2
# States that hold what was read, and labels, which are whole numbers.
_EXACT = frozenset({"x_previous_next", "reads_next", "labels", "sentence_labels"})


def limit_of(
    spec: pb.ModelSpec, name: str, reference: NDArray[Any], rounding: float = 0.0
) -> NDArray[Any]:
    """What may differ in an output, of a shape that broadcasts with it.

    Args:
        spec: of the file.
        name: of the output.
        reference: what the network gives; of a forecast [rows, horizon, K, ...].
        rounding: of the arithmetic, besides that of float32, in units of what the
            network gives: ``HALF`` for recurrent operators in float16.
    """
    magnitude = magnitude_of(name, reference)
    limit: NDArray[Any] = ABSOLUTE + RELATIVE * magnitude
    if not rounding or name in _EXACT:
        return limit
    unit = np.maximum(magnitude, 1.0)
    if name in _BY_TARGET:
        unit = _target_scale(spec).reshape(magnitude.shape)
    limit += rounding * unit
    return limit


def magnitude_of(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The largest absolute value, of a forecast for each target."""
    axes = None
    if name in _BY_TARGET:
        axes = tuple(axis for axis in range(values.ndim) if axis != _TARGET_AXIS)
    magnitude: NDArray[Any] = np.abs(values).max(axis=axes, keepdims=True)
    return magnitude


def _target_scale(spec: pb.ModelSpec) -> NDArray[np.float64]:
    """The unit of each target's forecasts: that of its changes, of counts that of its values."""
    scaler, names = spec.forecast.scaler, [one.name for one in spec.forecast.features]
    is_count = spec.forecast.head.name == NegativeBinomialHead.name
    scale = scaler.level if is_count else scaler.scale
    return np.array([scale[names.index(target)] for target in spec.forecast.targets])
