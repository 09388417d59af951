"""Processes that train one model together.

Every process has the whole model and reads the whole batch. The recurrent
networks, where the time goes, run over each process's own rows and give all of
them the whole result; what surrounds them, such as the loss, every process
computes in whole. All processes therefore see the same loss, bit for bit, and
decide alike: nothing of it depends on how many they are but the rounding of sums.

Dimensions: B batch, T time, H hidden.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from tidegate.train.fit.interrupt import Interruption
from tidegate.train.recurrent import Recurrent

ValueT = TypeVar("ValueT")


class Processes:
    """One process by itself.

    Attributes:
        rank: of this process among them.
        local_rank: among those of its machine.
        count: of processes.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints, tracks and writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        return flag

    def of_first(self, value: ValueT) -> ValueT:
        """The first process's value."""
        return value

    def average_gradients(self, model: nn.Module) -> None:
        """Makes every gradient the mean over the processes."""

    def interruption(self) -> Interruption:
        """How a stop is asked for while they train."""
        return Interruption()

    @contextmanager
    def split(self, model: nn.Module) -> Iterator[None]:  # noqa: ARG002 - there is nothing to split
        """Shares the rows of batches among the processes, in training within the block."""
        yield


class ProcessGroup(Processes):
    """The processes of torch's default group, which is initialized.

    Args:
        device: where this process's model is.
        local_rank: of this process among those of its machine.
        interruption: makes what asks for a stop; None: SIGINT does.
    """

    def __init__(
        self,
        device: torch.device,
        local_rank: int = 0,
        interruption: Callable[[], Interruption] | None = None,
    ) -> None:
        self.rank = distributed.get_rank()
        self.local_rank = local_rank
        self.count = distributed.get_world_size()
        self._device = device
        self._interruption = interruption or partial(Interruption, is_patient=True)

    def interruption(self) -> Interruption:
        """How a stop is asked for while they train."""
        return self._interruption()

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        flags = torch.tensor(int(flag), device=self._device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def of_first(self, value: ValueT) -> ValueT:
        """The first process's value."""
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self._device)
        return values[0]

    def average_gradients(self, model: nn.Module) -> None:
        """Makes every gradient the mean over the processes."""
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [one.numel() for one in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    @contextmanager
    def split(self, model: nn.Module) -> Iterator[None]:
        """Shares the rows of batches among the processes, in training within the block."""
        handles = []
        for network in model.modules():
            if isinstance(network, Recurrent):
                rows = _Rows(self)
                handles += [
                    network.register_forward_pre_hook(rows.take, with_kwargs=True),
                    network.register_forward_hook(rows.put_together),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Rows:
    """Splits the batches of one recurrent network."""

    def __init__(self, processes: ProcessGroup) -> None:
        self._processes = processes
        self._sizes: list[int] = []

    def take(
        self, network: Recurrent, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of this process's rows."""
        given = dict(zip(("x", "lengths", "state"), args, strict=False)) | kwargs
        x, count, rank = given["x"], self._processes.count, self._processes.rank
        batch_axis = 0 if network.batch_first else 1
        batch = x.shape[batch_axis]
        self._sizes = []
        # Fewer rows than processes: all of them run the whole.
        if not network.training or batch < count or given.get("masks") is not None:
            return None
        self._sizes = [batch * (i + 1) // count - batch * i // count for i in range(count)]
        first, size = sum(self._sizes[:rank]), self._sizes[rank]
        given["x"] = x.narrow(batch_axis, first, size)
        for name in ("lengths", "sequences"):
            if given.get(name) is not None:
                given[name] = given[name][first : first + size]
        if given.get("state") is not None:
            given["state"] = _of_states(given["state"], lambda one: one.narrow(1, first, size))
        if given.get("sequences") is None:
            given["sample_offset"] = given.get("sample_offset", 0) + first
        return (), given

    def put_together(
        self,
        network: Recurrent,
        args: tuple[Any, ...],  # noqa: ARG002 - the signature is torch's
        result: tuple[Tensor, Any],
    ) -> tuple[Tensor, Any] | None:
        """The result of all rows."""
        if not self._sizes:
            return None
        output, state = result
        whole = self._gathered(output, 0 if network.batch_first else 1)
        return whole, _of_states(state, lambda one: self._gathered(one, 1))

    def _gathered(self, own: Tensor, axis: int) -> Tensor:
        whole: Tensor = _Gather.apply(own, axis, self._sizes, self._processes.rank)  # type: ignore[no-untyped-call] # torch's own
        return whole


class _Gather(torch.autograd.Function):
    """The rows of all processes in one tensor.

    Each process's loss is the whole loss, and its gradient that of the whole. The
    mean over the processes is then to hold every row once: what flows back here is
    times their number.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, axis: int, sizes: list[int], rank: int) -> Tensor:  # noqa: ANN401 # torch's own
        ctx.place = axis, sizes, rank
        rows = own.movedim(axis, 0)
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        whole = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
        return whole.movedim(0, axis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401 # torch's own
        axis, sizes, rank = ctx.place
        own = gradient.narrow(axis, sum(sizes[:rank]), sizes[rank])
        return own * len(sizes), None, None, None


def _of_states(state: Any, change: Any) -> Any:  # noqa: ANN401 # h, or (h, c); a function of each
    return change(state) if isinstance(state, Tensor) else tuple(change(one) for one in state)
