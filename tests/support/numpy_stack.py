"""A whole stack in NumPy, row by row, under masks that the trained code drew."""

from typing import Any

import numpy as np
from torch import Tensor

from support import numpy_reference as reference
from support.numpy_reference import Array, RowMasks, State, Weights
from tidegate.train import Recurrent
from tidegate.train.masks import LayerMasks, Masks

NO_MASKS = RowMasks()


def recompute(
    model: Recurrent,
    x: Tensor,
    *,
    lengths: tuple[int, ...] | None = None,
    state: tuple[Tensor, ...] | None = None,
    masks: Masks | RowMasks = NO_MASKS,
) -> tuple[Array, tuple[Array, ...]]:
    """What the equations give for a batch.

    Each row is cut to its length first, so that a wrong treatment of padding
    cannot be repeated here.

    Args:
        model: whose weights to use.
        x: [B, T, I].
        lengths: of the rows; None: T each.
        state: (h,) or (h, c), each [L*D, B, H]; None: zeros.
        masks: of the whole batch, or the factors of every row, layer and direction.

    Returns:
        (output [B, T, W], zero in padding, the final (h,) or (h, c)).
    """
    rows, steps = x.shape[:2]
    output = np.zeros((rows, steps, model.output_size))
    finals: list[list[State]] = []
    for row, length in enumerate(lengths or (steps,) * rows):
        initial = _initial(model, state, row)
        output[row, :length], final = _run_row(model, _array(x[row, :length]), initial, masks, row)
        finals.append(final)
    return output, tuple(
        np.array([[state[part] for state in final] for final in finals]).swapaxes(0, 1)
        for part in range(len(finals[0][0]))
    )


def row_masks(masks: LayerMasks, row: int, steps: int, *, lstm: bool) -> RowMasks:
    """The factors of one row: its index on every batch axis, its steps on every time axis."""
    taken: dict[str, Any] = {"memory_scale": masks.memory_scale}
    if masks.input is not None:
        taken["input"] = _array(masks.input[:, :, row])[:steps]
    if masks.candidate is not None:
        taken["candidate"] = _array(masks.candidate[:, row])[:steps]
    for name in ("zone_cell", "zone_hidden"):
        zone = getattr(masks, name)
        if zone is not None:
            taken[name] = _array(zone[:, row])[:steps]
    if masks.weight is not None:
        taken["weight"] = _array(masks.weight)
    if masks.flip is not None:
        # The row's whole mask, where the trained code multiplies twice.
        signs = np.outer(_array(masks.flip.rows[row]), _array(masks.flip.columns[row]))
        taken["weight"] = taken["weight"] + _array(masks.flip.weight) * signs
    if masks.memory is not None:
        taken["memory"] = _array(masks.memory[row])
    if masks.hidden is not None:
        # Beside the memory of a GRU or RNN, `hidden` already holds its m / k, which the
        # reference multiplies itself. Twice the same m of 0 and 1 is m.
        held = masks.memory_scale if masks.memory is not None and not lstm else 1.0
        taken["hidden"] = _array(masks.hidden[:, row]) / held
    elif masks.memory is not None:
        assert lstm, "rnndrop on a GRU or RNN must mask h where it enters the gates"
    return RowMasks(**taken)


def weights(model: Recurrent, layer: int, direction: int) -> Weights:
    """A layer's parameters by gate."""
    parameters = {name: _array(parameter) for name, parameter in model.named_parameters()}
    flavour = model.cell if model.reset_after else f"{model.cell}_reset_before"
    return reference.weights_of(parameters, layer, direction, reference.GATES[flavour])


def _run_row(
    model: Recurrent, x: Array, states: list[State], masks: Masks | RowMasks, row: int
) -> tuple[Array, list[State]]:
    flavour = model.cell if model.reset_after else f"{model.cell}_reset_before"
    step, steps, finals = reference.STEPS[flavour], len(x), list[State]()
    for layer in range(model.num_layers):
        outputs = []
        for direction in range(model.num_directions):
            factors = (
                masks
                if isinstance(masks, RowMasks)
                else row_masks(
                    masks.layers[layer][direction], row, steps, lstm=model.cell == "lstm"
                )
            )
            output, final = reference.unroll(
                step,
                x,
                states[len(finals)],
                weights(model, layer, direction),
                factors,
                reverse=direction == 1,
            )
            outputs.append(output)
            finals.append(final)
        x = _merge(model, outputs, layer)
    if isinstance(masks, Masks) and masks.output is not None:
        x = x * _array(masks.output[:, 0, row])[:steps]
    return x, finals


def _merge(model: Recurrent, outputs: list[Array], layer: int) -> Array:
    """[h_f, h_b], or W_f h_f + W_b h_b."""
    if len(outputs) == 1 or model.merge == "concat":
        return np.concatenate(outputs, axis=-1)
    parameters = dict(model.named_parameters())
    forward = _array(parameters[f"weight_merge_l{layer}"])
    reverse = _array(parameters[f"weight_merge_l{layer}_reverse"])
    return outputs[0] @ forward.T + outputs[1] @ reverse.T


def _initial(model: Recurrent, state: tuple[Tensor, ...] | None, row: int) -> list[State]:
    count = model.num_layers * model.num_directions
    if state is None:
        parts = 2 if model.cell == "lstm" else 1
        return [(np.zeros(model.hidden_size),) * parts] * count
    return [tuple(_array(part[index, row]) for part in state) for index in range(count)]


def _array(tensor: Tensor) -> Array:
    return tensor.detach().numpy().astype(np.float64)
