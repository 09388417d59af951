"""Sizes and parameters of a recurrent network, named and laid out as torch.nn does it.

Dimensions: I input size, H hidden, G gates, L layers, D directions.
"""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.cells import Weights
from tidegate.train.unroll import Cell, find_cell

CELLS = ("lstm", "gru", "rnn")
MERGES = ("concat", "sum")

CellName: TypeAlias = Literal["lstm", "gru", "rnn"]
Merge: TypeAlias = Literal["concat", "sum"]


class RecurrentBase(nn.Module):
    """What a recurrent network holds, before it runs.

    Args:
        cell: "lstm", "gru" or "rnn".
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bidirectional: whether there is a second direction.
        reset_after: where a GRU's reset gate acts.
        merge: "concat" or "sum".
        dtype: of the parameters.
        device: of the parameters.

    Raises:
        ValueError: an argument is unknown or out of its range.
    """

    def __init__(
        self,
        cell: CellName,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        bidirectional: bool,
        reset_after: bool,
        merge: Merge,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        super().__init__()
        check_choice("cell", cell, CELLS)
        check_choice("merge", merge, MERGES)
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            check_positive(name, value)
        self.cell = cell
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.reset_after = reset_after
        self.merge = merge
        self._register(dtype, torch.device(device) if device is not None else None)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """D."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Width of the output: H, or 2H for two concatenated directions."""
        return self.hidden_size * (self.num_directions if self.merge == "concat" else 1)

    @property
    def gates(self) -> int:
        """G: 4 for the LSTM, 3 for the GRU, 1 for the RNN."""
        return self._cell().gates

    def layer_input_size(self, layer: int) -> int:
        """Width of what a layer reads."""
        return self.input_size if layer == 0 else self.output_size

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights as torch.nn does: uniform within 1 / sqrt(H)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if name.startswith("weight_merge"):
                nn.init.eye_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def weights(self, layer: int, direction: int) -> Weights:
        """The weights of a layer (from 0) and direction (0 forward, 1 reverse)."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return Weights(*(self._parameter(name, layer, direction) for name in names))

    def _flat_weights(self) -> list[Tensor]:
        """Those of every layer and direction, one after another, as torch's kernels take them."""
        layers, directions = range(self.num_layers), range(self.num_directions)
        return [one for layer in layers for way in directions for one in self.weights(layer, way)]

    def merge_weight(self, layer: int, direction: int) -> Tensor:
        """W_f (direction 0) or W_b (1) of ``merge="sum"``, [H, H]."""
        return self._parameter("weight_merge", layer, direction)

    def _cell(self) -> Cell:
        return find_cell(self.cell, reset_after=self.reset_after)

    def _register(self, dtype: torch.dtype | None, device: torch.device | None) -> None:
        rows, H = self.gates * self.hidden_size, self.hidden_size
        for layer in range(self.num_layers):
            for suffix in _suffixes(layer, self.num_directions):
                shapes = {
                    "weight_ih": (rows, self.layer_input_size(layer)),
                    "weight_hh": (rows, H),
                    "bias_ih": (rows,),
                    "bias_hh": (rows,),
                }
                if self.bidirectional and self.merge == "sum":
                    shapes["weight_merge"] = (H, H)
                for name, shape in shapes.items():
                    empty = torch.empty(shape, dtype=dtype, device=device)
                    self.register_parameter(name + suffix, nn.Parameter(empty))

    def _parameter(self, name: str, layer: int, direction: int) -> Tensor:
        # Not get_parameter: under torch.func.functional_call a weight is a plain tensor.
        weight: Tensor = getattr(self, name + _suffixes(layer, 2)[direction])
        return weight


def _suffixes(layer: int, directions: int) -> tuple[str, ...]:
    """The endings of a layer's parameter names in torch.nn."""
    return (f"_l{layer}", f"_l{layer}_reverse")[:directions]
