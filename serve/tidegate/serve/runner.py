"""Runs of whole sequences from requests that keep no state."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.serve.ragged import padded, split_runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from tidegate.serve.model import Model
    from tidegate.serve.settings import Settings


class Runner:
    """Pads sequences into runs within the limits and runs them in the worker thread.

    Between two runs of a large request the thread takes those of the streams.

    Args:
        settings: Limits.
        executor: The worker thread.
    """

    def __init__(self, settings: Settings, executor: Executor) -> None:
        self._settings = settings
        self._executor = executor

    async def run(
        self, model: Model, name: str, values: NDArray[Any], lengths: NDArray[np.int64]
    ) -> AsyncIterator[tuple[NDArray[np.int64], dict[str, NDArray[Any]]]]:
        """Runs all sequences from their initial states.

        Args:
            model: The model.
            name: The input that takes the values.
            values: All sequences one after the other, [sum(lengths), ...].
            lengths: Rows of each, at least 1.

        Yields:
            Indices of some sequences, and the outputs of their run.
        """
        loop = asyncio.get_running_loop()
        settings = self._settings
        starts = np.cumsum(lengths) - lengths
        for members in split_runs(lengths, settings.max_batch, settings.max_batch_rows):
            feeds: dict[str, NDArray[Any]] = {
                name: padded(values, starts[members], lengths[members]),
                "lengths": lengths[members].astype(np.int32),
            }
            for state in model.states:
                shape = (state.layers, len(members), state.width)
                feeds[state.input] = np.full(shape, state.initial_value, np.float32)
            outputs, seconds = await loop.run_in_executor(
                self._executor, model.session.timed_run, feeds
            )
            model.stats.record_run(feeds[name].shape[0] * feeds[name].shape[1], seconds)
            model.stats.steps += int(lengths[members].sum())
            yield members, outputs
