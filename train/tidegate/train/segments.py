"""Recurrent layers that step over segments, and yet answer at every observation.

A step reads the last w observations, and its state before is that of w steps
ago: h_t = cell(x_{t-w+1..t}, h_{t-w}). So the layers take T / w steps from one end
of T observations to the other, and a segment ends at every one of them; w
interleaved sequences run side by side.

Beside the hidden state they may answer with the series' own lags, for a linear
map to read: how far the last value is from each of the m values before it.

Source: segments from Lin et al. 2023, arXiv 2308.11200 (SegRNN); the dilation,
which makes them streamable, from Chang et al. 2017, arXiv 1710.02224 (Dilated
RNN); the linear, autoregressive component from Lai et al. 2018, arXiv 1703.07015
(LSTNet, section 3.6).

Dimensions: B batch, T time, F features, C channels, L layers, H hidden, w segment,
P phases, m lags.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.train.recurrent import Recurrent
from tidegate.train.recurrent_inputs import as_torch_state, state_tensors

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class Segments:
    """How a causal stack reads a series.

    Args:
        length: w, the observations of a step.
        channel_independent: whether each feature is a series of its own, read and
            forecast with the same weights.
        lags: m, values before the last one that the answer holds beside the hidden
            state; the reads must be changes, of which they are the sums.
    """

    length: int
    channel_independent: bool
    lags: int = 0

    @property
    def kept(self) -> int:
        """Reads that are carried: those which the next segment and lags begin with."""
        return max(self.length, self.lags) - 1

    def input_size(self, features: int) -> int:
        """What the stack must take."""
        return self.length * (1 if self.channel_independent else features)

    def initial_state(self, recurrent: Recurrent, batch: int, features: int) -> States:
        """States h (and c) [L * w, B, C * H], then reads [max(w, m) - 1, B, F] if any."""
        weight = recurrent.weights(0, 0).weight_ih
        channels = features if self.channel_independent else 1
        width = channels * recurrent.hidden_size
        rings = [weight.new_zeros(recurrent.num_layers * self.length, batch, width)]
        if recurrent.cell == "lstm":
            rings *= 2
        if self.kept > 0:
            rings.append(weight.new_zeros(self.kept, batch, features))
        return tuple(rings)

    def run(
        self,
        recurrent: Recurrent,
        reads: Tensor,
        lengths: Tensor | None,
        state: States,
        sequences: Tensor | None = None,
    ) -> tuple[Tensor, States]:
        """Runs the stack over what it reads.

        Args:
            recurrent: the stack, batch first.
            reads: [B, T, F], standardized; padding may hold anything finite.
            lengths: integers [B]; None: every row is full.
            state: of :meth:`initial_state` or an earlier call.
            sequences: as for :meth:`Recurrent.forward`.

        Returns:
            The hidden states [B, T, H], channel by channel [B, T, C, H], or with lags
            [B, T, C, H + m]; and the state after each row's last observation.
        """
        batch, time, features = reads.shape
        if lengths is None:
            lengths = torch.full((batch,), time, device=reads.device)
        channels = features if self.channel_independent else 1
        rings = list(state)
        before = rings.pop() if self.kept > 0 else reads.new_zeros(0, batch, features)
        recent = last_reads(reads, before, lengths)
        if self.channel_independent:
            reads, before = to_channels(reads), before.reshape(len(before), batch * channels, 1)
            lengths = lengths.repeat_interleave(channels)
            sequences = None if sequences is None else sequences.repeat_interleave(channels)
        hidden, new = run_dilated(
            recurrent,
            windows(reads, before[self.kept - self.length + 1 :]),
            lengths,
            tuple(ring.reshape(len(ring), batch * channels, -1) for ring in rings),
            self.length,
            sequences,
        )
        new = tuple(ring.reshape(len(ring), batch, -1) for ring in new)
        if self.lags > 0:
            changes = windows(reads, before[self.kept - self.lags + 1 :])
            hidden = torch.cat([hidden, distances(changes)], dim=-1)
        if self.channel_independent:
            hidden = from_channels(hidden, channels)
        return hidden, ((*new, recent) if self.kept > 0 else new)


def windows(reads: Tensor, before: Tensor) -> Tensor:
    """The last reads at each step, feature by feature and the latest at the end.

    Args:
        reads: [B, T, F].
        before: the w - 1 reads before, oldest first, [w - 1, B, F].

    Returns:
        [B, T, F * w].
    """
    known = torch.cat([before.transpose(0, 1), reads], dim=1)
    return known.unfold(1, len(before) + 1, 1).flatten(start_dim=2)


def distances(changes: Tensor) -> Tensor:
    """How far the last value is from that before each change: the sum of all changes since."""
    return changes.flip(-1).cumsum(dim=-1).flip(-1)


def last_reads(reads: Tensor, before: Tensor, lengths: Tensor) -> Tensor:
    """The last reads of each row, as many as before; arguments as for :func:`windows`."""
    known = torch.cat([before.transpose(0, 1), reads], dim=1)
    index = lengths + torch.arange(len(before), device=reads.device)[:, None]
    return known[torch.arange(len(reads), device=reads.device), index]


def run_dilated(
    recurrent: Recurrent,
    x: Tensor,
    lengths: Tensor,
    state: States,
    dilation: int,
    sequences: Tensor | None = None,
) -> tuple[Tensor, States]:
    """Runs a causal stack whose every layer goes on from its state w steps ago.

    The w interleaved sequences are rows of one batch. Masks per sequence are each
    one's own, or by ``sequences`` the same for all of a row.

    Args:
        recurrent: the stack, batch first.
        x: [B, T, I]; padding may hold anything finite.
        lengths: integers [B].
        state: h (and c), the last w states of each layer, oldest first, [L * w, B, H].
        dilation: w.
        sequences: as for :meth:`Recurrent.forward`, [B].

    Returns:
        The output [B, T, H], without meaning in padding, and the state.
    """
    batch, time, width = x.shape
    phases = min(time, dilation)
    steps = -(-time // phases)
    x = F.pad(x, (0, 0, 0, steps * phases - time))
    folded = x.view(batch, steps, phases, width).permute(2, 0, 1, 3).reshape(-1, steps, width)
    # Steps of each phase; a short row may have none.
    phase = torch.arange(phases, device=x.device)[:, None]
    counts = (lengths - phase + phases - 1) // phases
    rings = [one.view(recurrent.num_layers, dilation, batch, -1) for one in state]
    before = tuple(ring[:, :phases].flatten(1, 2) for ring in rings)
    output, new = recurrent(
        folded,
        counts.clamp(min=1).flatten(),
        as_torch_state(before),
        sequences=None if sequences is None else sequences.repeat(phases),
    )
    output = output.view(phases, batch, steps, -1).permute(1, 2, 0, 3).flatten(1, 2)
    turned = tuple(
        _turned(ring, one.view(len(one), phases, batch, -1), counts, lengths)
        for ring, one in zip(rings, state_tensors(new), strict=True)
    )
    return output[:, :time], turned


def _turned(ring: Tensor, after: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    """The last w states with the oldest first again, [L * w, B, H].

    Args:
        ring: before, [L, w, B, H].
        after: of the first P phases, [L, P, B, H].
        counts: steps of each phase, [P, B].
        lengths: [B].
    """
    phases, dilation = after.shape[1], ring.shape[1]
    moved = torch.where(counts[:, :, None] > 0, after, ring[:, :phases])
    whole = torch.cat([moved, ring[:, phases:]], dim=1)
    index = (torch.arange(dilation, device=ring.device)[:, None] + lengths) % dilation
    return whole[:, index, torch.arange(ring.shape[2], device=ring.device)].flatten(0, 1)


def to_channels(x: Tensor) -> Tensor:
    """[B, T, C] as rows of their own, [B * C, T, 1]."""
    return x.transpose(1, 2).reshape(-1, x.shape[1], 1)


def from_channels(hidden: Tensor, channels: int) -> Tensor:
    """[B * C, T, H] as [B, T, C, H]."""
    return hidden.view(-1, channels, *hidden.shape[1:]).transpose(1, 2)
