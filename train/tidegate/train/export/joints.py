"""What stands between the layers of a stack: merged directions, states cut and joined.

Dimensions: T time, B batch, H hidden, L layers, D directions.
"""

from collections.abc import Collection, Sequence

from tidegate.train.export.graph import GraphBuilder
from tidegate.train.export.weights import to_numpy
from tidegate.train.recurrent import Recurrent

STATE_NAMES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}
SUFFIXES = ("", "_reverse")


def merged(graph: GraphBuilder, recurrent: Recurrent, layer: int, sides: Sequence[str]) -> str:
    """The directions' outputs, each [T, B, H], as one [T, B, output_size]."""
    if len(sides) == 1:
        return sides[0]
    if recurrent.merge == "concat":
        return graph.add("Concat", *sides, axis=-1)
    products = []
    for direction, side in enumerate(sides):
        weight = to_numpy(recurrent.merge_weight(layer, direction)).T
        name = f"merge_l{layer}{SUFFIXES[direction]}"
        products.append(graph.add("MatMul", side, graph.constant(weight, name=name)))
    return graph.add("Add", *products)


def masked(graph: GraphBuilder, x: str, name: str, masks: Collection[str]) -> str:
    """[..., B, width] times the mask of that name, where there is one."""
    return graph.add("Mul", x, name) if name in masks else x


def split(graph: GraphBuilder, state: str, parts: int) -> list[str]:
    """[L*D, B, H] in equal parts along the first axis."""
    if parts == 1:
        return [state]
    return graph.add_many("Split", [state], parts, axis=0, num_outputs=parts)


def joined(graph: GraphBuilder, parts: Sequence[str]) -> str:
    """The inverse of :func:`split`."""
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=0)


def state_inputs(graph: GraphBuilder, model: Recurrent) -> list[str]:
    """Declares the states of a network as inputs, each [L*D, B, H]."""
    shape = (model.num_layers * model.num_directions, "batch", model.hidden_size)
    return [graph.input(name, "float32", shape) for name in STATE_NAMES[model.cell]]


def state_outputs(graph: GraphBuilder, model: Recurrent, states: list[str]) -> None:
    """Declares the next states of a network as outputs."""
    shape = (model.num_layers * model.num_directions, "batch", model.hidden_size)
    for name, value in zip(STATE_NAMES[model.cell], states, strict=True):
        graph.output(value, f"{name}_next", "float32", shape)
