"""The stacked recurrent network: one or two directions, six regularizers.

Dimensions: T time, B batch, I input size, H hidden, G gates, L layers,
D directions.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tidegate.train import network_masks
from tidegate.train.combination import check_combination
from tidegate.train.mask_sampler import MaskSampler, Place
from tidegate.train.masks import Masks
from tidegate.train.network_masks import Places
from tidegate.train.recurrent_base import CellName, Merge
from tidegate.train.recurrent_inputs import (
    TorchState,
    as_torch_state,
    check_input,
    check_sequences,
    checked_lengths,
    checked_state,
    without_padding,
)
from tidegate.train.recurrent_layers import RecurrentLayers
from tidegate.train.regularizers import EmbeddingDropout, Regularizer, Zoneout, find

__all__ = ["CellName", "Merge", "Recurrent"]

# Paths from input to output multiply with every layer; 2 or 3 are usual.
USUAL_MAX_LAYERS = 4


class Recurrent(RecurrentLayers):
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
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            reset_after=reset_after,
            merge=merge,
            dtype=dtype,
            device=device,
        )
        check_combination(regularizers, cell, num_layers=num_layers, bidirectional=bidirectional)
        _warn_of_depth(num_layers)
        self.regularizers = tuple(regularizers)
        self.batch_first = batch_first
        self.seed = int(torch.randint(2**62, ()))
        self.step = 0
        self.sample: int | None = None

    @property
    def samples_networks(self) -> bool:
        """Whether there are masks per sequence, each of which makes a network of its own."""
        return any(one.per_sequence and any(one.rates.values()) for one in self.regularizers)

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
        check_sequences(sequences, batch, sample_offset)
        sampler = self._sampler(batch, time)
        sampler = replace(
            sampler,
            sample_offset=sample_offset,
            sequences=sequences,
            dtype=dtype or sampler.dtype,
            device=device or sampler.device,
        )
        return network_masks.draw(sampler, self.regularizers, self._places(), self.output_size)

    def sampled_masks(self, sample: int, batch: int, *, sample_offset: int = 0) -> Masks:
        """Draws the masks per sequence of one sampled network; see ``sample``.

        Args:
            sample: number of the network.
            batch: B.
            sample_offset: index of the first row in the whole batch.
        """
        sampler = replace(self._sampler(batch, 1, sample), sample_offset=sample_offset)
        return network_masks.sampled(sampler, self.regularizers, self._places(), self.output_size)

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
        check_input(x, self.input_size, batch_first=self.batch_first)
        x = x.transpose(0, 1) if self.batch_first else x
        time, batch, _ = x.shape
        lengths = checked_lengths(lengths, time, batch, x.device)
        x = without_padding(x, lengths)
        shape = (self.num_layers * self.num_directions, batch, self.hidden_size)
        states = checked_state(state, self.cell, shape, x)
        if masks is None:
            masks = self._next_masks(batch, time, sample_offset, sequences)
        output, states = self._run(x, lengths, states, masks)
        output = output.transpose(0, 1) if self.batch_first else output
        return output, as_torch_state(states)

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

    def _places(self) -> Places:
        directions = range(self.num_directions)
        return tuple(
            tuple(
                Place(layer, direction, self.cell, self.gates, width, self.hidden_size)
                for direction in directions
            )
            for layer in range(self.num_layers)
            for width in (self.layer_input_size(layer),)
        )

    def _next_masks(
        self, batch: int, time: int, sample_offset: int, sequences: Tensor | None
    ) -> Masks | None:
        if not self.regularizers:
            return None
        if self.training:
            drawn: Masks = self._draw_masks(batch, time, sample_offset, sequences)
            return drawn
        if self.sample is not None:
            return self.sampled_masks(self.sample, batch, sample_offset=sample_offset)
        if find(self.regularizers, Zoneout) is None:
            return None
        return network_masks.expected(self.regularizers, self._places())

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

    # Compiled, the counter would be a constant that each pass compiles anew.
    @torch.compiler.disable  # type: ignore[untyped-decorator] # torch leaves it without types
    def _draw_masks(
        self, batch: int, time: int, sample_offset: int, sequences: Tensor | None
    ) -> Masks:
        masks = self.sample_masks(batch, time, sample_offset=sample_offset, sequences=sequences)
        self.step += 1
        return masks


def _warn_of_depth(num_layers: int) -> None:
    if num_layers > USUAL_MAX_LAYERS:
        warnings.warn(
            f"num_layers={num_layers}: more than {USUAL_MAX_LAYERS} recurrent layers train slowly "
            "and rarely help, since the paths of the gradient multiply; 2 or 3 are usual",
            UserWarning,
            stacklevel=3,
        )
