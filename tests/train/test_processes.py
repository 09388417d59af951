"""Processes that train one model together, as real processes over Gloo."""

import multiprocessing
from typing import Any

import pytest
import torch

from support.process_group import TASKS, take_part, train
from tidegate.train.fit import Processes

COUNT = 2


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What came of training, by the rank of the process."""
    folder = tmp_path_factory.mktemp("group")
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=take_part, args=(rank, COUNT, str(folder))) for rank in range(COUNT)
    ]
    for one in processes:
        one.start()
    for one in processes:
        one.join(timeout=200)
    assert [one.exitcode for one in processes] == [0] * COUNT
    return [torch.load(folder / f"{rank}.pt") for rank in range(COUNT)]


@pytest.mark.parametrize("kind", TASKS)
def test_two_processes_learn_what_one_learns_from_the_same_batches(
    kind: str, came: list[dict[str, Any]]
) -> None:
    alone = train(kind, Processes())

    for together in came:
        torch.testing.assert_close(together[kind], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", TASKS)
def test_processes_never_drift_apart(kind: str, came: list[dict[str, Any]]) -> None:
    first, second = came

    assert first[kind].equal(second[kind])


def test_sigint_in_one_process_stops_all_at_one_step_and_the_first_saves(
    came: list[dict[str, Any]],
) -> None:
    assert [one["stopped"] for one in came] == ["stopped in epoch 1 after step 2"] * COUNT
    assert [one["saved"] for one in came] == [1, 0]


def test_what_is_not_finite_in_one_process_stops_all_with_the_step_named(
    came: list[dict[str, Any]],
) -> None:
    assert all(one["broken"].startswith("epoch 1, step 3: the loss is ") for one in came)


def test_a_weight_that_no_loss_reads_gets_no_gradient(came: list[dict[str, Any]]) -> None:
    assert [one["gradients"] for one in came] == [[True, False]] * COUNT
