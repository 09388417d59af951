"""What decides whether a CUDA device trains on kernels and in graphs; needs no device."""

import pytest
import torch

from tidegate.train.kernels.cuda.available import is_available
from tidegate.train.kernels.cuda.graphs import may_capture

# Each process decides once.
decide = is_available.__wrapped__


def test_triton_is_all_that_the_kernels_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.delenv("TIDEGATE_KERNELS", raising=False)

    assert decide()


def test_the_kernels_can_be_switched_off_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("TIDEGATE_KERNELS", "0")

    assert not decide()


def test_without_triton_a_warning_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.delenv("TIDEGATE_KERNELS", raising=False)

    with pytest.warns(RuntimeWarning, match="Triton is not installed.*TIDEGATE_KERNELS=0"):
        assert not decide()


def test_graphs_are_captured_unless_they_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    monkeypatch.delenv("TIDEGATE_CUDA_GRAPHS", raising=False)
    assert may_capture(torch.device("cuda"))
    assert not may_capture(torch.device("cpu"))

    monkeypatch.setenv("TIDEGATE_CUDA_GRAPHS", "0")

    assert not may_capture(torch.device("cuda"))
