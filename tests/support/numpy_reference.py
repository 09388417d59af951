"""The recurrences and their six regularizers in NumPy, written from the equations alone.

One sequence at a time: no batch, so neither padding nor batch mates exist here.
T time, I input size, H hidden, G gates, L layers, D directions.

Sources: Hochreiter & Schmidhuber 1997 with forget gates (LSTM), Cho et al. 2014 (GRU),
and per mask site the papers named in `RowMasks`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Factor = Array | float
State = tuple[Array, ...]


class RowMasks(NamedTuple):
    """The factors of one sequence in one layer and direction; the defaults change nothing."""

    input: Array = np.ones((1, 1, 1))  # [T|1, G|1, I]  Zaremba 2014, Gal 2016
    hidden: Array = np.ones((1, 1))  # [G|1, H]  Gal 2016
    weight: Factor = 1.0  # [G*H, H]  Merity 2017
    candidate: Array = np.ones((1, 1))  # [T|1, H]  Semeniuta 2016
    memory: Factor = 1.0  # [H], 0 or 1  Moon 2015
    memory_scale: float = 1.0
    zone_cell: Array = np.zeros((1, 1))  # [T|1, H], share of the old c  Krueger 2016
    zone_hidden: Array = np.zeros((1, 1))  # [T|1, H], share of the old h

    def at(self, t: int) -> "RowMasks":
        """The same factors with the time axis gone."""
        return self._replace(
            input=_at(self.input, t),
            candidate=_at(self.candidate, t),
            zone_cell=_at(self.zone_cell, t),
            zone_hidden=_at(self.zone_hidden, t),
        )


class Weights(NamedTuple):
    """The parameters of one layer and direction, by gate: [G, H, I], [G, H, H], [G, H]."""

    W: Array
    R: Array
    b_ih: Array
    b_hh: Array


Step = Callable[[Array, State, Weights, RowMasks], tuple[Array, State]]


def lstm_step(x: Array, state: State, w: Weights, m: RowMasks) -> tuple[Array, State]:
    """One step of an LSTM, gates i, f, g, o: (output, (h, c)).

    Moon: c = m (f c + i g), h = o tanh(c) / k. Krueger: h comes from the cell before
    it is zoned, and the output is the zoned h.
    """
    h, c = state
    a = _product(w.W, x, m.input) + w.b_ih + _product(w.R, h, m.hidden) + w.b_hh
    i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])
    new_c = m.memory * (f * c + i * (g * m.candidate))
    new_h = o * np.tanh(new_c) * m.memory_scale
    h = m.zone_hidden * h + (1 - m.zone_hidden) * new_h
    c = m.zone_cell * c + (1 - m.zone_cell) * new_c
    return h, (h, c)


def gru_step(x: Array, state: State, w: Weights, m: RowMasks) -> tuple[Array, State]:
    """One step of a GRU, gates r, z, n, the reset gate after the matrix (PyTorch, cuDNN)."""
    (h,) = state
    read = exposed(h, m)
    from_x = _product(w.W, x, m.input) + w.b_ih
    from_h = _product(w.R, read, m.hidden) + w.b_hh
    r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
    n = np.tanh(from_x[2] + r * from_h[2])
    return _finish_gru(h, z, n, m)


def gru_reset_before_step(x: Array, state: State, w: Weights, m: RowMasks) -> tuple[Array, State]:
    """One step of a GRU whose reset gate acts on h before the matrix (Cho et al. 2014)."""
    (h,) = state
    read = exposed(h, m)
    from_x = _product(w.W, x, m.input) + w.b_ih + w.b_hh
    from_h = _product(w.R, read, m.hidden)
    r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
    n = np.tanh(from_x[2] + _product(w.R, r * read, m.hidden)[2])
    return _finish_gru(h, z, n, m)


def rnn_step(x: Array, state: State, w: Weights, m: RowMasks) -> tuple[Array, State]:
    """One step of a simple tanh network (Elman 1990)."""
    (h,) = state
    a = _product(w.W, x, m.input) + w.b_ih + _product(w.R, exposed(h, m), m.hidden) + w.b_hh
    h = m.zone_hidden * h + (1 - m.zone_hidden) * np.tanh(a[0])
    return exposed(h, m), (h,)


STEPS: Mapping[str, Step] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "gru_reset_before": gru_reset_before_step,
    "rnn": rnn_step,
}
GATES: Mapping[str, int] = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn": 1}


def unroll(
    step: Step, x: Array, state: State, w: Weights, m: RowMasks, *, reverse: bool = False
) -> tuple[Array, State]:
    """Runs one direction over one whole sequence.

    Args:
        step: the recurrence.
        x: [T, I]; a mask of step t belongs to ``x[t]`` whatever the direction.
        state: (h,) or (h, c), each [H].
        w: the weights, before any weight mask.
        m: the factors.
        reverse: starts at the last step.

    Returns:
        (outputs [T, H] in the order of ``x``, the state after the last step taken).
    """
    w = w._replace(R=w.R * np.reshape(m.weight, w.R.shape) if np.ndim(m.weight) else w.R)
    outputs = np.zeros((len(x), w.R.shape[-1]))
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        outputs[t], state = step(x[t], state, w, m.at(t))
    return outputs, state


def exposed(h: Array, m: RowMasks) -> Array:
    """What a layer shows of a carried h: h m / k, while h itself is carried raw."""
    return h * m.memory * m.memory_scale


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def weights_of(parameters: Mapping[str, Any], layer: int, direction: int, gates: int) -> Weights:
    """Reads torch's names; the arrays come out by gate, in double precision."""
    suffix = f"_l{layer}" + ("_reverse" if direction else "")

    def read(name: str) -> Array:
        flat = np.asarray(parameters[name + suffix], dtype=np.float64)
        return flat.reshape(gates, flat.shape[0] // gates, *flat.shape[1:])

    return Weights(read("weight_ih"), read("weight_hh"), read("bias_ih"), read("bias_hh"))


def _product(matrix: Array, vector: Array, mask: Array) -> Array:
    """[G, H]: each gate's matrix times the vector under that gate's mask."""
    masked = np.broadcast_to(vector * mask, (len(matrix), len(vector)))
    return np.stack([rows @ entry for rows, entry in zip(matrix, masked, strict=True)])


def _finish_gru(h: Array, z: Array, n: Array, m: RowMasks) -> tuple[Array, State]:
    new_h = (1 - z) * (n * m.candidate) + z * h
    h = m.zone_hidden * h + (1 - m.zone_hidden) * new_h
    return exposed(h, m), (h,)


def _at(mask: Array, t: int) -> Array:
    row: Array = mask[t if len(mask) > 1 else 0]
    return row
