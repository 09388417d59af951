"""A causal forecaster: raw observations in, a distribution out, at every step.

Dimensions: T time, B batch, F features, K targets, Q quantiles.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.combination import check_reads_numbers
from tidegate.train.heads import (
    Distribution,
    Frame,
    Head,
    NegativeBinomialHead,
    QuantileHead,
    Shape,
)
from tidegate.train.recurrent import Recurrent
from tidegate.train.recurrent_inputs import as_torch_state, state_tensors
from tidegate.train.scaler import Scaler
from tidegate.train.segments import Segments, States


class SeriesFormat(NamedTuple):
    """What the columns and steps of a series mean.

    Attributes:
        features: names, one for each column of x.
        units: one for each feature, "" where there is none.
        targets: names of the features that are forecast.
        frequency: pandas' offset alias of the time between two observations.
    """

    features: tuple[str, ...]
    units: tuple[str, ...]
    targets: tuple[str, ...]
    frequency: str


class Forecaster(nn.Module):
    """Direct multi-horizon forecasts from a causal recurrent network.

    Each step reads the standardized observation, and the head says how each of
    the next ``horizon`` values of each target is distributed.

    Args:
        recurrent: a causal :class:`Recurrent` with F inputs, batch first.
        features: names of the F columns of x.
        targets: names of the features to forecast.
        horizon: steps ahead.
        quantile_levels: ascending, within (0, 1).
        scaler: fitted to the training part.
        frequency: pandas' offset alias of the time between two observations.
        units: one for each feature; empty: none has a unit.
        segment: observations that a step of the network reads; see :mod:`segments`.
        channel_independent: whether each feature is a series of its own, read and
            forecast with the same weights; every feature is a target then.
        lags: values before the last one that the head reads beside the hidden state, as
            distances from it: an autoregressive component. Each feature must be
            differenced, and its channel independent.
        head: a kind of head.
        **options: of the head, such as ``largest_count``.

    Attributes:
        offsets: what is added to each quantile, in raw units [horizon, K, Q]; zero
            unless a calibration sets it.

    Raises:
        ValueError: the network is bidirectional or does not fit the features,
            or an argument is out of its range.
    """

    center: Tensor
    scale: Tensor
    differenced: Tensor
    level: Tensor
    target_index: Tensor
    offsets: Tensor

    def __init__(
        self,
        recurrent: Recurrent,
        *,
        features: Sequence[str],
        targets: Sequence[str],
        horizon: int,
        quantile_levels: Sequence[float],
        scaler: Scaler,
        frequency: str,
        units: Sequence[str] = (),
        segment: int = 1,
        channel_independent: bool = False,
        lags: int = 0,
        head: type[Head] = QuantileHead,
        **options: Any,  # noqa: ANN401 # each head has its own
    ) -> None:
        super().__init__()
        check_positive("segment", segment)
        _check_lags(lags, scaler, channel_independent=channel_independent)
        self.segments = Segments(segment, channel_independent, lags)
        _check_network(recurrent, len(features), self.segments.input_size(len(features)))
        check_reads_numbers(recurrent.regularizers)
        for target in targets:
            check_choice("targets", target, features)
        if channel_independent and tuple(targets) != tuple(features):
            raise ValueError(
                f"targets={list(targets)} with channel_independent=True: each feature is forecast "
                f"from itself; give the features {list(features)}"
            )
        self.recurrent = recurrent
        shape = Shape(horizon, len(targets), tuple(quantile_levels))
        width = recurrent.output_size + lags
        self.head = head(width, shape, shared=channel_independent, **options)
        with torch.no_grad():
            # A linear model is convex, and nothing is gained by noise in its beginning.
            self.head.linear.weight[:, recurrent.output_size :] = 0.0
        self.format = SeriesFormat(
            tuple(features),
            tuple(units) or ("",) * len(features),
            tuple(targets),
            frequency,
        )
        for name, values in (
            ("center", scaler.center),
            ("scale", scaler.scale),
            ("differenced", scaler.differenced),
            ("level", scaler.level),
        ):
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32))
        self.register_buffer("target_index", torch.tensor([features.index(t) for t in targets]))
        if head is NegativeBinomialHead and not (self.target_level > 0).all():
            raise ValueError(
                f"scaler.level of the targets {list(targets)} is {self.target_level.tolist()}; a "
                "negative binomial head forecasts counts, whose mean is above 0: take another head"
            )
        self.register_buffer("offsets", torch.zeros(horizon, len(targets), len(quantile_levels)))

    @property
    def horizon(self) -> int:
        """Steps ahead."""
        return self.head.shape.horizon

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """[Q], ascending."""
        return self.head.shape.quantile_levels

    @property
    def middle(self) -> int:
        """Position of the level nearest the median."""
        levels = self.quantile_levels
        return min(range(len(levels)), key=lambda index: abs(levels[index] - 0.5))

    @property
    def can_cross(self) -> bool:
        """Whether the offsets bring two quantiles nearer to each other."""
        return bool((self.offsets.diff(dim=-1) < 0).any())

    @property
    def target_scale(self) -> Tensor:
        """Standard deviation of what the network reads of each target, [K]."""
        return self.scale[self.target_index]

    @property
    def target_level(self) -> Tensor:
        """Mean of each target in the training part, [K]."""
        return self.level[self.target_index]

    @property
    def carries_last_value(self) -> bool:
        """Whether the state holds the last observation, for differencing."""
        return bool(self.differenced.any())

    @property
    def reads_segments(self) -> bool:
        """Whether a step of the network is more, or less, than an observation."""
        return self.segments != Segments(1, channel_independent=False)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first observation of each row."""
        features = len(self.scale)
        if self.reads_segments:
            states = self.segments.initial_state(self.recurrent, batch, features)
        else:
            width = (self.recurrent.num_layers, batch, self.recurrent.hidden_size)
            names = ("h", "c") if self.recurrent.cell == "lstm" else ("h",)
            states = tuple(self.scale.new_zeros(width) for _ in names)
        if not self.carries_last_value:
            return states
        nothing = torch.full((1, batch, features), torch.nan, device=self.scale.device)
        return (*states, nothing)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
        *,
        sequences: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The quantiles at every step; arguments and state as for :meth:`distribution`.

        Returns:
            Raw quantiles [B, T, horizon, K, Q], without meaning in padding, and the
            state.
        """
        distribution, new = self.distribution(x, lengths, state, sequences=sequences)
        return self.quantiles(distribution), new

    def quantiles(self, distribution: Distribution) -> Tensor:
        """The quantiles of a distribution, with their offsets, [B, T, horizon, K, Q].

        Offsets that bring quantiles nearer to each other could make them cross. So
        from the middle outward none lies nearer to the middle than the one before.
        """
        moved = self.head.quantiles(distribution) + self.offsets
        if not self.can_cross:
            return moved
        middle = self.middle
        low = moved[..., : middle + 1].flip(-1).cummin(dim=-1).values.flip(-1)
        high = moved[..., middle:].cummax(dim=-1).values
        return torch.cat([low, high[..., 1:]], dim=-1)

    def loss(self, distribution: Distribution, y: Tensor) -> Tensor:
        """What training minimizes.

        Args:
            distribution: of :meth:`distribution`.
            y: raw values [B, T, horizon, K]; NaN takes no part.
        """
        return self.head.loss(distribution, y, self.target_scale)

    def distribution(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
        *,
        sequences: Tensor | None = None,
    ) -> tuple[Distribution, tuple[Tensor, ...]]:
        """What the head says at every step.

        Args:
            x: raw observations [B, T, F]; padding may hold anything.
            lengths: integers [B], each from 1 to T; None: every row is full.
            state: from :meth:`initial_state` or an earlier call; None: initial.
            sequences: as for :meth:`Recurrent.forward`.

        Returns:
            The head's tensors by name, without meaning in padding, and the state
            after each row's last observation: h (and c) [L, B, H], or those of
            :class:`Segments`, then x_previous [1, B, F] if a feature is differenced.
        """
        states = list(self.initial_state(len(x)) if state is None else state)
        if lengths is not None:
            padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
            x = x.masked_fill(padding[:, :, None], 0.0)
        x_previous = states.pop() if self.carries_last_value else None
        reads = self._standardized(x, x_previous)
        hidden, new_states = self._run(reads, lengths, tuple(states), sequences)
        if x_previous is not None:
            new_states = (*new_states, _last(x, lengths)[None])
        frame = Frame(x[:, :, self.target_index], self.target_scale, self.target_level)
        return self.head(hidden, frame), new_states

    def example(self, batch: int, time: int, generator: torch.Generator) -> Tensor:
        """Draws observations at the training data's scale, [batch, time, F]."""
        noise = torch.randn(batch, time, len(self.scale), generator=generator)
        read = self.center + self.scale * noise
        walk = self.level + read.cumsum(dim=1)
        return torch.where(self.differenced.bool(), walk, read)

    def _run(
        self, reads: Tensor, lengths: Tensor | None, states: States, sequences: Tensor | None
    ) -> tuple[Tensor, States]:
        if self.reads_segments:
            return self.segments.run(self.recurrent, reads, lengths, states, sequences)
        state = as_torch_state(states)
        hidden, new = self.recurrent(reads, lengths, state, sequences=sequences)
        return hidden, state_tensors(new)

    def _standardized(self, x: Tensor, x_previous: Tensor | None) -> Tensor:
        if x_previous is not None:
            before = torch.cat([x_previous.transpose(0, 1), x[:, :-1]], dim=1)
            # NaN: nothing observed yet, so nothing has changed.
            before = torch.where(before.isnan(), x, before)
            x = x - before * self.differenced
        return (x - self.center) / self.scale


def _last(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row's last real step, [B, F]."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(len(x), device=x.device), lengths.to(x.device).long() - 1]


def _check_lags(lags: int, scaler: Scaler, *, channel_independent: bool) -> None:
    if lags < 0:
        raise ValueError(f"lags={lags} is out of range; give a whole number from 0 up")
    if lags and not (channel_independent and all(scaler.differenced)):
        raise ValueError(
            f"lags={lags} with channel_independent={channel_independent} and "
            f"scaler.differenced={list(scaler.differenced)}: lags are sums of changes, channel by "
            "channel; difference every feature and set channel_independent=True, or give no lags"
        )


def _check_network(recurrent: Recurrent, features: int, width: int) -> None:
    if recurrent.bidirectional:
        raise ValueError(
            "recurrent.bidirectional=True in a forecaster: the future is not known there, so only "
            "the past may be used; set bidirectional=False"
        )
    if recurrent.input_size != width or not recurrent.batch_first:
        raise ValueError(
            f"recurrent.input_size={recurrent.input_size}, batch_first={recurrent.batch_first}; "
            f"a forecaster of {features} features takes {width} and True"
        )
