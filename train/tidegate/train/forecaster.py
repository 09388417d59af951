"""A causal forecaster: raw observations in, raw quantiles out, at every step.

Dimensions: T time, B batch, F features, K targets, Q quantiles.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tidegate.train.arguments import check_choice, check_positive
from tidegate.train.combination import check_reads_numbers
from tidegate.train.recurrent import Recurrent
from tidegate.train.scaler import Scaler


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
    """Direct multi-horizon quantile forecasts from a causal recurrent network.

    Each step reads the standardized observation and forecasts the next
    ``horizon`` values of each target as quantiles of their change from the
    target's last value. The quantile nearest the median is a linear function of
    the hidden state; the others are sums of positive steps away from it, so
    that they never cross.

    Args:
        recurrent: a causal :class:`Recurrent` with F inputs, batch first.
        features: names of the F columns of x.
        targets: names of the features to forecast.
        horizon: steps ahead.
        quantile_levels: ascending, within (0, 1).
        scaler: fitted to the training part.
        frequency: pandas' offset alias of the time between two observations.
        units: one for each feature; empty: none has a unit.

    Raises:
        ValueError: the network is bidirectional or does not fit the features,
            or an argument is out of its range.
    """

    center: Tensor
    scale: Tensor
    differenced: Tensor
    level: Tensor
    target_index: Tensor
    spread: Tensor

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
    ) -> None:
        super().__init__()
        _check_network(recurrent, len(features))
        check_reads_numbers(recurrent.regularizers)
        check_positive("horizon", horizon)
        _check_levels(quantile_levels)
        for target in targets:
            check_choice("targets", target, features)
        self.recurrent = recurrent
        self.horizon = horizon
        self.quantile_levels = tuple(quantile_levels)
        self.format = SeriesFormat(
            tuple(features),
            tuple(units) or ("",) * len(features),
            tuple(targets),
            frequency,
        )
        outputs = horizon * len(targets) * len(quantile_levels)
        self.head = nn.Linear(recurrent.output_size, outputs)
        for name, values in (
            ("center", scaler.center),
            ("scale", scaler.scale),
            ("differenced", scaler.differenced),
            ("level", scaler.level),
        ):
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32))
        self.register_buffer("target_index", torch.tensor([features.index(t) for t in targets]))
        self.register_buffer("spread", _spread(quantile_levels))

    @property
    def target_scale(self) -> Tensor:
        """Standard deviation of what the network reads of each target, [K]."""
        return self.scale[self.target_index]

    @property
    def carries_last_value(self) -> bool:
        """Whether the state holds the last observation, for differencing."""
        return bool(self.differenced.any())

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """The state before the first observation of each row."""
        width = (self.recurrent.num_layers, batch, self.recurrent.hidden_size)
        names = ("h", "c") if self.recurrent.cell == "lstm" else ("h",)
        states = tuple(self.scale.new_zeros(width) for _ in names)
        if not self.carries_last_value:
            return states
        nothing = torch.full((1, batch, len(self.scale)), torch.nan, device=self.scale.device)
        return (*states, nothing)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
        *,
        sequences: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Forecasts at every step.

        Args:
            x: raw observations [B, T, F]; padding may hold anything.
            lengths: integers [B], each from 1 to T; None: every row is full.
            state: from :meth:`initial_state` or an earlier call; None: initial.
            sequences: as for :meth:`Recurrent.forward`.

        Returns:
            Raw quantiles [B, T, horizon, K, Q], without meaning in padding, and
            the state after each row's last observation: h (and c) [L, B, H],
            then x_previous [1, B, F] if a feature is differenced.
        """
        states = list(self.initial_state(len(x)) if state is None else state)
        if lengths is not None:
            padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
            x = x.masked_fill(padding[:, :, None], 0.0)
        x_previous = states.pop() if self.carries_last_value else None
        hidden, new = self.recurrent(
            self._standardized(x, x_previous),
            lengths,
            states[0] if len(states) == 1 else (states[0], states[1]),
            sequences=sequences,
        )
        new_states = (new,) if isinstance(new, Tensor) else new
        if x_previous is not None:
            new_states = (*new_states, _last(x, lengths)[None])
        return self._quantiles(hidden, x), new_states

    def example(self, batch: int, time: int, generator: torch.Generator) -> Tensor:
        """Draws observations at the training data's scale, [batch, time, F]."""
        noise = torch.randn(batch, time, len(self.scale), generator=generator)
        read = self.center + self.scale * noise
        walk = self.level + read.cumsum(dim=1)
        return torch.where(self.differenced.bool(), walk, read)

    def _standardized(self, x: Tensor, x_previous: Tensor | None) -> Tensor:
        if x_previous is not None:
            before = torch.cat([x_previous.transpose(0, 1), x[:, :-1]], dim=1)
            # NaN: nothing observed yet, so nothing has changed.
            before = torch.where(before.isnan(), x, before)
            x = x - before * self.differenced
        return (x - self.center) / self.scale

    def _quantiles(self, hidden: Tensor, x: Tensor) -> Tensor:
        targets, levels = len(self.format.targets), len(self.quantile_levels)
        raw = self.head(hidden).view(*hidden.shape[:2], self.horizon, targets, levels)
        middle, steps = raw[..., :1], squareplus(raw[..., 1:])
        change = middle + steps @ self.spread
        last_value = x[:, :, None, self.target_index, None]
        quantiles: Tensor = last_value + change * self.target_scale[:, None]
        return quantiles


def squareplus(x: Tensor) -> Tensor:
    """(x + sqrt(x^2 + 4)) / 2: positive, and close to x for large x.

    Its operations round exactly, so that a forecast never depends on where its
    row stands in a batch; the vectorized softplus of ONNX Runtime does not
    give a row the same last bit everywhere.

    Source: Barron 2021, arXiv 2112.11687.
    """
    return (x + torch.sqrt(x * x + 4.0)) * 0.5


def _spread(levels: Sequence[float]) -> Tensor:
    """[Q-1, Q]: adds the steps away from the middle quantile, on either side."""
    middle = min(range(len(levels)), key=lambda i: abs(levels[i] - 0.5))
    spread = torch.zeros(len(levels) - 1, len(levels))
    for quantile in range(middle + 1, len(levels)):
        spread[middle:quantile, quantile] = 1.0
    for quantile in range(middle):
        spread[quantile:middle, quantile] = -1.0
    return spread


def _last(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each row's last real step, [B, F]."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(len(x), device=x.device), lengths.to(x.device).long() - 1]


def _check_network(recurrent: Recurrent, features: int) -> None:
    if recurrent.bidirectional:
        raise ValueError(
            "recurrent.bidirectional=True in a forecaster: the future is not known there, so only "
            "the past may be used; set bidirectional=False"
        )
    if recurrent.input_size != features or not recurrent.batch_first:
        raise ValueError(
            f"recurrent.input_size={recurrent.input_size}, batch_first={recurrent.batch_first}; "
            f"a forecaster of {features} features takes {features} and True"
        )


def _check_levels(levels: Sequence[float]) -> None:
    ascending = all(low < high for low, high in itertools.pairwise(levels))
    if not levels or not ascending or not 0 < levels[0] <= levels[-1] < 1:
        raise ValueError(
            f"quantile_levels={list(levels)} is not usable; give ascending levels within (0, 1)"
        )
