"""The layers of a recurrent network, run under masks that are given.

Dimensions: T time, B batch, H hidden, L layers, D directions. Everything here
is time-major.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.train.cells import State
from tidegate.train.masks import LayerMasks, Masks
from tidegate.train.recurrent_base import RecurrentBase
from tidegate.train.recurrent_inputs import join_state, split_state
from tidegate.train.torch_kernel import torch_kernel
from tidegate.train.unroll import run_layer


class RecurrentLayers(RecurrentBase):
    """Runs the layers one upon the other; which masks there are is said from outside."""

    def _run(
        self,
        x: Tensor,
        lengths: Tensor | None,
        states: tuple[Tensor, ...],
        masks: Masks | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        kernel = self._cell().kernel
        is_summed = self.bidirectional and self.merge == "sum"
        if masks is None and kernel is not None and not is_summed:
            # Torch's own network: all layers and directions in one call.
            return torch_kernel(
                kernel,
                x,
                lengths,
                states,
                self._flat_weights(),
                num_layers=self.num_layers,
                bidirectional=self.bidirectional,
            )
        return self._run_layers(x, lengths, split_state(states), masks)

    def _run_layers(
        self, x: Tensor, lengths: Tensor | None, states: list[State], masks: Masks | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        cell, new_states = self._cell(), list[State]()
        for layer in range(self.num_layers):
            outputs: list[Tensor] = []
            for direction in range(self.num_directions):
                output, new = run_layer(
                    cell,
                    x,
                    lengths,
                    states[layer * self.num_directions + direction],
                    self.weights(layer, direction),
                    LayerMasks() if masks is None else masks.layers[layer][direction],
                    reverse=direction == 1,
                )
                outputs.append(output)
                new_states.append(new)
            x = self._merged(outputs, layer)
        if masks is not None and masks.output is not None:
            x = x * masks.output[:, 0]
        return x, join_state(new_states)

    def _merged(self, outputs: list[Tensor], layer: int) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        if self.merge == "concat":
            return torch.cat(outputs, dim=-1)
        forward, reverse = outputs
        return F.linear(forward, self.merge_weight(layer, 0)) + F.linear(
            reverse, self.merge_weight(layer, 1)
        )
