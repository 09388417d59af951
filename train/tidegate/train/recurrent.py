"""The stacked recurrent network: one or two directions, six regularizers.

Dimensions: T time, B batch, I input size, H hidden, G gates, L layers,
D directions.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.cells import State, Weights
from tidegate.train.combination import check_combination
from tidegate.train.mask_sampler import MaskSampler, Place
from tidegate.train.masks import LayerMasks, Masks, expectation
from tidegate.train.regularizers import EmbeddingDropout, Regularizer, Zoneout, find
from tidegate.train.unroll import Cell, find_cell, run_layer

CELLS = ("lstm", "gru", "rnn")
MERGES = ("concat", "sum")
# Paths from input to output multiply with every layer; 2 or 3 are usual.
USUAL_MAX_LAYERS = 4

CellName: TypeAlias = Literal["lstm", "gru", "rnn"]
Merge: TypeAlias = Literal["concat", "sum"]
# h, or (h, c) for the LSTM, as torch.nn's modules take and return them.
TorchState: TypeAlias = Tensor | tuple[Tensor, Tensor]


class Recurrent(nn.Module):
    """A stack of LSTM, GRU or simple RNN layers with recurrent regularizers.

    Parameter names, shapes, gate order and state layout are those of
    ``torch.nn.LSTM``, ``GRU`` and ``RNN``: a state_dict goes both ways. In
    evaluation there are no masks: the network is torch's own, except under
    zoneout, whose inference is the expectation of its recurrence.

    With ``merge="sum"`` the two directions meet as y = W_f h_f + W_b h_b, one
    weight matrix per direction (``weight_merge_l0``, ``weight_merge_l0_reverse``,
    both [H, H]), and a layer's output keeps the width H. Initially both are the
    identity matrix, so that y = h_f + h_b.

    Args:
        cell: "lstm", "gru" or "rnn" (tanh).
        input_size: I.
        hidden_size: H.
        num_layers: L; more than 4 warn.
        bidirectional: whether a second network reads the sequence backwards.
        regularizers: instances from :mod:`tidegate.train.regularizers`.
        reset_after: GRU only: the reset gate acts after the product with
            W_hn (torch, cuDNN) or, if False, on h before it (the original paper).
        merge: "concat" or "sum"; how two directions become one output.
        batch_first: x is [B, T, I] if True, else [T, B, I]. States are
            [L*D, B, H] always.
        dtype: of the parameters.
        device: of the parameters.

    Attributes:
        seed: of the masks; drawn from torch's generator, so ``torch.manual_seed``
            fixes it.
        step: forward passes with masks so far; with ``seed`` it determines the
            next masks.
        sample: in evaluation, the number of the sampled network whose masks per
            sequence are in force; None: no masks. See
            :func:`tidegate.train.inference.monte_carlo`.

    Raises:
        ValueError: an argument is unknown or out of its range, or the
            regularizers have no meaning together.
    """

    def __init__(
        self,
        cell: CellName,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        regularizers: Sequence[Regularizer] = (),
        reset_after: bool = True,
        merge: Merge = "concat",
        batch_first: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
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
        check_combination(regularizers, cell, num_layers=num_layers, bidirectional=bidirectional)
        _warn_of_depth(num_layers)
        self.cell = cell
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.regularizers = tuple(regularizers)
        self.reset_after = reset_after
        self.merge = merge
        self.batch_first = batch_first
        self._register(dtype, torch.device(device) if device is not None else None)
        self.reset_parameters()
        self.seed = int(torch.randint(2**62, ()))
        self.step = 0
        self.sample: int | None = None

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

    @property
    def samples_networks(self) -> bool:
        """Whether there are masks per sequence, each of which makes a network of its own."""
        return any(one.per_sequence and any(one.rates.values()) for one in self.regularizers)

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

    def merge_weight(self, layer: int, direction: int) -> Tensor:
        """W_f (direction 0) or W_b (1) of ``merge="sum"``, [H, H]."""
        return self._parameter("weight_merge", layer, direction)

    def layer_input_size(self, layer: int) -> int:
        """Width of what a layer reads."""
        return self.input_size if layer == 0 else self.output_size

    def sample_masks(
        self,
        batch: int,
        time: int,
        *,
        sample_offset: int = 0,
        sequences: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> Masks:
        """Draws the masks of the present ``seed`` and ``step``; the same every time.

        Args:
            batch: B.
            time: T.
            sample_offset: index of the first sample in the whole batch.
            sequences: the number of each row's sequence, integers [B].
            dtype: of the masks; None: as the parameters.
            device: of the masks; None: as the parameters.
        """
        sequences = _checked_sequences(sequences, batch, sample_offset)
        sampler = replace(self._sampler(batch, time), sample_offset=sample_offset)
        sampler = replace(
            sampler,
            sequences=sequences,
            dtype=dtype or sampler.dtype,
            device=device or sampler.device,
        )
        return self._drawn(sampler, self.regularizers)

    def drop_words(self, embedded: Tensor, tokens: Tensor) -> Tensor:
        """Applies :class:`EmbeddingDropout` to what the next forward pass will read.

        Args:
            embedded: the words' embeddings, [B, T, E].
            tokens: their ids, int64 [B, T].

        Returns:
            The embeddings, unchanged where there are no masks.
        """
        method = find(self.regularizers, EmbeddingDropout)
        if method is None or not (self.training or self.sample is not None):
            return embedded
        factors: Tensor = self._word_factors(method, tokens)
        return embedded * factors.to(embedded)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: TorchState | None = None,
        *,
        masks: Masks | None = None,
        sample_offset: int = 0,
        sequences: Tensor | None = None,
    ) -> tuple[Tensor, TorchState]:
        """Runs the stack over a batch of sequences.

        Args:
            x: [B, T, I] (or [T, B, I]); padding may hold anything.
            lengths: integers [B], each from 1 to T; None: every row has T steps.
            state: h [L*D, B, H], or (h, c) for the LSTM; None: zeros.
            masks: used as they are, in training and evaluation. None: drawn
                anew in training, absent in evaluation.
            sample_offset: index of x's first row in the whole batch, where a
                batch is split over processes: each then draws its own rows' masks.
            sequences: the number of the sequence that each row belongs to,
                integers [B]. Masks per sequence are then the same in every call
                with the same number: they persist over the segments of one
                sequence, and change where a row begins another. Masks of W_hh
                are of the forward pass always.

        Returns:
            The top layer's output, [B, T, output_size] (or time first), zero in
            padding, and the state after each row's last step.

        Raises:
            ValueError: a shape or a length does not fit.
        """
        x = x.transpose(0, 1) if self.batch_first else x
        self._check_input(x)
        time, batch, _ = x.shape
        lengths = _checked_lengths(lengths, time, batch, x.device)
        if lengths is not None:
            padding = torch.arange(time, device=x.device)[:, None] >= lengths
            # Not a product: 0 * NaN is NaN, in the backward pass too.
            x = x.masked_fill(padding[:, :, None], 0.0)
        states = self._split_state(state, x)
        if masks is None:
            masks = self._next_masks(batch, time, sample_offset, sequences)
        output, new = self._run(x, lengths, states, masks)
        return (output.transpose(0, 1) if self.batch_first else output), self._join_state(new)

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults."""
        parts = [f"{self.cell!r}, {self.input_size}, {self.hidden_size}, {self.num_layers}"]
        if self.bidirectional:
            parts.append(f"bidirectional=True, merge={self.merge!r}")
        if self.regularizers:
            parts.append(f"regularizers={list(self.regularizers)}")
        if self.cell == "gru" and not self.reset_after:
            parts.append("reset_after=False")
        return ", ".join(parts)

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

    def _cell(self) -> Cell:
        return find_cell(self.cell, reset_after=self.reset_after)

    def _place(self, layer: int, direction: int) -> Place:
        width = self.layer_input_size(layer)
        return Place(layer, direction, self.cell, self.gates, width, self.hidden_size)

    def _next_masks(
        self, batch: int, time: int, sample_offset: int, sequences: Tensor | None
    ) -> Masks:
        if self.training and self.regularizers:
            drawn: Masks = self._draw_masks(batch, time, sample_offset, sequences)
            return drawn
        if self.training:
            return self._by_layer(lambda *_: LayerMasks())
        if self.sample is not None:
            return self._network(self.sample, batch, sample_offset)
        return self._by_layer(self._expected)

    def _network(self, number: int, batch: int, sample_offset: int) -> Masks:
        """The masks per sequence of a sampled network; what is per step is as in evaluation."""
        sampler = replace(self._sampler(batch, 1, number), sample_offset=sample_offset)
        drawn = self._drawn(sampler, [one for one in self.regularizers if one.per_sequence])

        def with_zones(layer: int, direction: int) -> LayerMasks:
            zones = self._expected(layer, direction)
            return drawn.layers[layer][direction]._replace(
                zone_cell=zones.zone_cell, zone_hidden=zones.zone_hidden
            )

        return self._by_layer(with_zones)._replace(output=drawn.output)

    def _sampler(self, batch: int, time: int, network: int | None = None) -> MaskSampler:
        """Draws for the next pass of training, or for a sampled network."""
        weight = self._parameter("weight_ih", 0, 0)
        return MaskSampler(
            seed=self.seed,
            # No pass of training has a number below 0.
            step=self.step if network is None else -1 - network,
            batch=batch,
            time=time,
            dtype=weight.dtype,
            device=weight.device,
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it without types
    def _word_factors(self, method: EmbeddingDropout, tokens: Tensor) -> Tensor:
        network = None if self.training else self.sample
        return self._sampler(len(tokens), 1, network).words(method, tokens)

    def _drawn(self, sampler: MaskSampler, regularizers: Sequence[Regularizer]) -> Masks:
        layers = self._by_layer(
            lambda layer, direction: sampler.layer(regularizers, self._place(layer, direction))
        )
        width = self.output_size
        output = sampler.output(regularizers, num_layers=self.num_layers, width=width)
        return layers._replace(output=output)

    def _expected(self, layer: int, direction: int) -> LayerMasks:
        zoneout = find(self.regularizers, Zoneout)
        if zoneout is None:
            return LayerMasks()
        return expectation(zoneout, self.cell, layer, direction)

    def _by_layer(self, masks: Callable[[int, int], LayerMasks]) -> Masks:
        return Masks(
            tuple(
                tuple(masks(layer, direction) for direction in range(self.num_directions))
                for layer in range(self.num_layers)
            )
        )

    # Compiled, the counter would be a constant that each pass compiles anew.
    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it without types
    def _draw_masks(
        self, batch: int, time: int, sample_offset: int, sequences: Tensor | None
    ) -> Masks:
        masks = self.sample_masks(batch, time, sample_offset=sample_offset, sequences=sequences)
        self.step += 1
        return masks

    def _run(
        self, x: Tensor, lengths: Tensor | None, states: list[State], masks: Masks
    ) -> tuple[Tensor, list[State]]:
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
                    masks.layers[layer][direction],
                    reverse=direction == 1,
                )
                outputs.append(output)
                new_states.append(new)
            x = self._merged(outputs, layer)
        return (x if masks.output is None else x * masks.output[:, 0]), new_states

    def _merged(self, outputs: list[Tensor], layer: int) -> Tensor:
        if len(outputs) == 1:
            return outputs[0]
        if self.merge == "concat":
            return torch.cat(outputs, dim=-1)
        forward, reverse = outputs
        return F.linear(forward, self.merge_weight(layer, 0)) + F.linear(
            reverse, self.merge_weight(layer, 1)
        )

    def _check_input(self, x: Tensor) -> None:
        layout = "[batch, time, features]" if self.batch_first else "[time, batch, features]"
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            shape = list(
                x.shape if not self.batch_first or x.dim() < 2 else x.transpose(0, 1).shape
            )
            raise ValueError(
                f"x has the shape {shape}; give {layout} with {self.input_size} features"
            )
        if x.shape[0] == 0 or x.shape[1] == 0:
            raise ValueError("x is empty; give at least one row and one step")

    def _split_state(self, state: TorchState | None, x: Tensor) -> list[State]:
        shape = (self.num_layers * self.num_directions, x.shape[1], self.hidden_size)
        names = ("h", "c") if self.cell == "lstm" else ("h",)
        if state is None:
            tensors: tuple[Tensor, ...] = (x.new_zeros(shape),) * len(names)
        else:
            tensors = (state,) if isinstance(state, Tensor) else tuple(state)
        if len(tensors) != len(names):
            raise ValueError(
                f"state has {len(tensors)} tensors; cell={self.cell!r} takes {' and '.join(names)}"
            )
        for name, tensor in zip(names, tensors, strict=True):
            if tensor.shape != shape:
                raise ValueError(
                    f"state {name} has the shape {list(tensor.shape)}; give "
                    f"[layers * directions, batch, hidden] = {list(shape)}"
                )
        return [State(*parts) for parts in zip(*(t.unbind(0) for t in tensors), strict=True)]

    def _join_state(self, states: list[State]) -> TorchState:
        h = torch.stack([state.h for state in states])
        if self.cell != "lstm":
            return h
        return h, torch.stack([state.c for state in states if state.c is not None])


def _suffixes(layer: int, directions: int) -> tuple[str, ...]:
    """The endings of a layer's parameter names in torch.nn."""
    return (f"_l{layer}", f"_l{layer}_reverse")[:directions]


def _warn_of_depth(num_layers: int) -> None:
    if num_layers > USUAL_MAX_LAYERS:
        warnings.warn(
            f"num_layers={num_layers}: more than {USUAL_MAX_LAYERS} recurrent layers train slowly "
            "and rarely help, since the paths of the gradient multiply; 2 or 3 are usual",
            UserWarning,
            stacklevel=3,
        )


def _checked_lengths(
    lengths: Tensor | None, time: int, batch: int, device: torch.device
) -> Tensor | None:
    """The lengths as int64 [B]; None if every row is full."""
    if lengths is None:
        return None
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ValueError(
            f"lengths has the shape {list(lengths.shape)} and dtype {lengths.dtype}; "
            f"give {batch} integers, one for each row"
        )
    low, high = int(lengths.min()), int(lengths.max())
    if low < 1 or high > time:
        raise ValueError(
            f"lengths run from {low} to {high}; each must be from 1 to the {time} steps of x"
        )
    return None if low == time else lengths.to(device=device, dtype=torch.int64)


def _checked_sequences(sequences: Tensor | None, batch: int, sample_offset: int) -> Tensor | None:
    if sequences is None:
        return None
    if sequences.shape != (batch,) or sequences.is_floating_point():
        raise ValueError(
            f"sequences has the shape {list(sequences.shape)} and dtype {sequences.dtype}; "
            f"give {batch} integers, the number of each row's sequence"
        )
    if sample_offset:
        raise ValueError(
            f"sample_offset={sample_offset} with sequences: rows draw by the numbers of their "
            "sequences, not by their places; give one of the two"
        )
    return sequences
