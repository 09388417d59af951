"""What a mask may do to a memory, and what it may not: an experiment in two curves.

Run with ``.venv/bin/python examples/memory.py``; about a minute on one core. It
writes ``.tidegate/memory.png``.

Temporal order (Hochreiter and Schmidhuber 1997, in the short form of Semeniuta
et al. 2016): a sequence of 30 symbols, all noise but two. One of them, x or y,
stands in the first ten steps, the other in the next ten. Which of the four
orders was it? The answer, at the last step, needs both symbols to survive the
noise in between.

Retention: an LSTM whose gates are closed (f = 1, i = 0) has nothing to do but
to keep what it remembers.

The six methods keep it, and so they learn the task, as does an LSTM without
any. A mask drawn anew at each step on the carried memory keeps k**t of it and
learns nothing.
:class:`tidegate.train.RNNDrop` refuses that granularity; here it is built by
hand, from the step function that the layers unroll.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tidegate.train import (
    Recurrent,
    RNNDrop,
    Semeniuta,
    Variational,
    WeightDrop,
    Zaremba,
    Zoneout,
    counter_rng,
    plots,
)
from tidegate.train.cells import State, StepMasks, lstm_step
from tidegate.train.regularizers import Regularizer

P = 0.5
METHODS: Mapping[str, tuple[Regularizer, ...]] = {
    "none": (),
    "zaremba": (Zaremba(P),),
    "rnndrop": (RNNDrop(P),),
    "variational": (Variational(P),),
    "weight_drop": (WeightDrop(P),),
    "semeniuta": (Semeniuta(P),),
    "zoneout": (Zoneout(cell=P, hidden=0.05),),
}
REFUSED = "per step on the memory (refused)"
COLORS = (plots.GREY, plots.BLUE, "#7fb3d5", "#2e8b57", "#8e6bbf", "#b8960c", "#a03050")

# The task: two positions below 10 and 20, 30 symbols, the first two of them x and y.
SYMBOLS, FIRST, SECOND, LENGTH, CLASSES = 6, 10, 20, 30, 4
WIDTH, FORGET_BIAS = 64, 2.0
BATCH, LEARNING_RATE, CLIP = 32, 3e-3, 1.0
CHECK_EVERY, CHECKED, TESTED = 10, 500, 4000
CHANCE, SOLVED = 1 / CLASSES, 0.998
# Five times what the slowest of the six needs.
MOST_UPDATES = 1000

console = Console(soft_wrap=True, highlight=False)


class PerStepOnMemory(nn.Module):
    """An LSTM with a mask per step on c: c_t = m_t (f c_{t-1} + i g), in evaluation k (...).

    Its arguments and results are those of a one-layer :class:`Recurrent`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = Recurrent("lstm", input_size, hidden_size)

    def forward(
        self, x: Tensor, lengths: None = None, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """X [B, T, I] -> (output [B, T, H], (h, c) [1, B, H])."""
        assert lengths is None
        weights, masks = self.lstm.weights(0, 0), self._masks(x)
        zeros = x.new_zeros(1, len(x), self.lstm.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        carried, outputs = State(h[0], c[0]), []
        gates = F.linear(x, weights.weight_ih, weights.bias_ih)
        for t in range(x.shape[1]):
            output, carried = lstm_step(gates[:, t], carried, weights, StepMasks(memory=masks[t]))
            outputs.append(output)
        assert carried.c is not None
        return torch.stack(outputs, dim=1), (carried.h[None], carried.c[None])

    def _masks(self, x: Tensor) -> Tensor:
        """Masks in training, the rate kept in evaluation, [T, B, H]."""
        rows, steps, units = len(x), x.shape[1], self.lstm.hidden_size
        if not self.training:
            return x.new_full((steps, rows, units), 1 - P)
        key = counter_rng.derive_key(self.lstm.seed, self.lstm.step)
        self.lstm.step += 1
        dropped = counter_rng.drop(key, P, times=steps, samples=rows, units=units)
        return (~dropped).to(x.dtype)


class Learner(nn.Module):
    """Symbols in, scores of the four orders out, at the last step."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, WIDTH)
        self.network = network
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, symbols: Tensor) -> Tensor:
        """Symbols [B, T] -> logits [B, 4]."""
        output, _ = self.network(self.embedding(symbols))
        logits: Tensor = self.head(output[:, -1])
        return logits


class Learned(NamedTuple):
    """What training came to.

    Attributes:
        updates: at which the accuracy was measured.
        accuracies: in evaluation, on new sequences.
        accuracy: at the end, on many more.
        seconds: of wall-clock time.
    """

    updates: list[int]
    accuracies: list[float]
    accuracy: float
    seconds: float


def network(name: str) -> nn.Module:
    """An LSTM under a method."""
    if name == REFUSED:
        model: nn.Module = PerStepOnMemory(WIDTH, WIDTH)
    else:
        model = Recurrent("lstm", WIDTH, WIDTH, regularizers=METHODS[name])
    with torch.no_grad():
        # Remember at first (Gers et al. 2000); else a run may wait long for its first success.
        recurrent(model).weights(0, 0).bias_ih.chunk(4)[1].fill_(FORGET_BIAS)
    return model


def recurrent(model: nn.Module) -> Recurrent:
    """The LSTM whose weights a network uses."""
    lstm = model.lstm if isinstance(model, PerStepOnMemory) else model
    assert isinstance(lstm, Recurrent)
    return lstm


def sequences(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws symbols [count, 30] and the order of each, one of four, [count]."""
    symbols = torch.randint(2, SYMBOLS, (count, LENGTH), generator=generator)
    first = torch.randint(0, FIRST, (count,), generator=generator)
    second = torch.randint(FIRST, SECOND, (count,), generator=generator)
    pair = torch.randint(0, 2, (2, count), generator=generator)
    rows = torch.arange(count)
    symbols[rows, first], symbols[rows, second] = pair[0], pair[1]
    return symbols, 2 * pair[0] + pair[1]


def learn(name: str, *, most_updates: int = MOST_UPDATES, seed: int = 0) -> Learned:
    """Trains a network on temporal order until it is solved, or for so many updates."""
    torch.manual_seed(seed)
    learner, begin = Learner(network(name)), time.monotonic()
    optimizer = torch.optim.Adam(learner.parameters(), LEARNING_RATE)
    data = torch.Generator().manual_seed(seed)
    updates, accuracies = [0], [measure(learner, CHECKED, data)]
    while updates[-1] < most_updates and min(accuracies[-2:]) < SOLVED:
        for _ in range(CHECK_EVERY):
            symbols, orders = sequences(BATCH, data)
            optimizer.zero_grad()
            F.cross_entropy(learner(symbols), orders).backward()  # type: ignore[no-untyped-call] # torch leaves it without a signature
            nn.utils.clip_grad_norm_(learner.parameters(), CLIP)
            optimizer.step()
        updates.append(updates[-1] + CHECK_EVERY)
        accuracies.append(measure(learner, CHECKED, data))
    accuracy = measure(learner, TESTED, data)
    return Learned(updates, accuracies, accuracy, time.monotonic() - begin)


@torch.no_grad()
def measure(learner: Learner, count: int, data: torch.Generator) -> float:
    """The share of new sequences whose order is told, in evaluation mode."""
    learner.eval()
    symbols, orders = sequences(count, data)
    right = learner(symbols).argmax(dim=-1) == orders
    learner.train()
    return float(right.double().mean())


@torch.no_grad()
def retention(name: str, rows: int = 200) -> list[float]:
    """What is left of the memory of step 1 after each of 30 steps of closed gates, in training."""
    model = network(name).train()
    for parameter in model.parameters():
        parameter.zero_()
    # sigmoid(+-800) is 1 and 0, exactly.
    i, f, _, _ = recurrent(model).weights(0, 0).bias_ih.chunk(4)
    i.fill_(-800.0)
    f.fill_(800.0)
    x, ones = torch.zeros(rows, LENGTH, WIDTH), torch.ones(1, rows, WIDTH)
    left = []
    for steps in range(1, LENGTH + 1):
        # The masks of a pass follow from its number, whatever its length.
        recurrent(model).step = 0
        _, (_, c) = model(x[:, :steps], None, (ones, ones))
        left.append(c.sum().item())
    return [one / left[0] for one in left]


def figure(learned: Mapping[str, Learned], retained: Mapping[str, list[float]]) -> Figure:
    """Draws both curves of every method."""
    drawn = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = drawn.subplots(1, 2)
    for place, (name, shares) in enumerate(retained.items()):
        # Most lie upon each other: the first drawn is the widest.
        width = 1.2 * (len(retained) - place)
        left.plot(range(1, LENGTH + 1), shares, color=color(name), lw=width)
    left.set_yscale("log")
    left.set_title("retention: seven curves lie on 1", loc="left")
    right.set_title("temporal order: a curve ends where it is solved", loc="left")
    left.set_xlabel("steps with closed gates")
    left.set_ylabel("share of the memory that is left")
    for name, result in learned.items():
        right.plot(result.updates, result.accuracies, color=color(name), lw=1.5, label=name)
    right.axhline(CHANCE, color=plots.GREY, lw=0.8, ls=":")
    # A solved task needs no more updates: its curve ends there.
    longest = max(one.updates[-1] for name, one in learned.items() if name != REFUSED)
    right.set_xlim(0, 2 * longest)
    right.set_xlabel("updates")
    right.set_ylabel("accuracy on temporal order")
    right.set_ylim(0, 1.02)
    right.legend(frameon=False, loc="center right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def color(name: str) -> str:
    """Of a method's curves; orange for the one that forgets."""
    return plots.ORANGE if name == REFUSED else COLORS[list(METHODS).index(name)]


def main() -> None:
    """Runs the experiment, prints a table and writes the figure."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    names = [*METHODS, REFUSED]
    retained = {name: retention(name) for name in names}
    table = Table("method", "left after 30 steps", "accuracy", "updates", "seconds")
    learned: dict[str, Learned] = {}
    for name in names:
        learned[name] = result = learn(name, most_updates=arguments.updates)
        table.add_row(
            name,
            f"{retained[name][-1]:.3g}",
            f"{result.accuracy:.3f}",
            str(result.updates[-1]),
            f"{result.seconds:.1f}",
        )
    console.print(table)
    console.print(f"wrote {plots.save(figure(learned, retained), arguments.output)}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a mask may do to a memory.")
    parser.add_argument("--output", type=Path, default=Path(".tidegate/memory.png"))
    parser.add_argument("--updates", type=int, default=MOST_UPDATES, help="most updates of a run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
