"""The way in: who is let through, and what calls notice of replicas that come and go."""

from __future__ import annotations

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.certificates import Authority
from support.compose import eventually
from tidegate.client import Client, ResourceExhaustedError, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from support.compose import Deployment

SENTENCE = ["watch", "now", "quietly", "the", "boat", "."]
WINDOW = np.tile([370.0, 0.0, 1.0], (100, 1))


def refused(deployment: Deployment, **other: Any) -> str:
    security = deployment.security(**other)
    with (
        Client(deployment.target, security=security) as client,
        pytest.raises(UnauthenticatedError) as error,
    ):
        client.list_models()
    return str(error.value)


def test_who_has_certificate_and_token_is_served(deployment: Deployment) -> None:
    with deployment.client() as client:
        assert {model.name for model in client.list_models()} == {"co2", "homographs"}
        (answer,) = client.annotate("homographs", [SENTENCE])
    assert answer.labels == ["VERB", "ADV", "ADV", "DET", "NOUN", "PUNCT"]


def test_the_program_of_the_page_runs_as_it_stands(deployment: Deployment) -> None:
    page = (deployment.folder / "docs" / "deployment.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert program.count("127.0.0.1:50051") == 1
    program = program.replace("127.0.0.1:50051", deployment.target)
    command = [sys.executable, "-W", "error", "-c", program]
    assert "name='co2', version='1'" in deployment.run(*command)


def test_a_client_without_a_certificate_of_the_authority_is_unauthenticated(
    deployment: Deployment, tmp_path: Path
) -> None:
    expected = "the gateway wants a client certificate of its own authority"
    assert refused(deployment, certificate=None, key=None) == expected
    certificate, key = Authority(tmp_path).issue("client")
    assert refused(deployment, certificate=certificate, key=key) == expected


def test_a_client_without_the_token_is_unauthenticated(deployment: Deployment) -> None:
    assert "wants a token" in refused(deployment, token="")
    assert "not known" in refused(deployment, token="wrong")  # noqa: S106 - it is no password


def test_calls_that_are_not_streams_notice_nothing_of_a_killed_replica(
    deployment: Deployment,
) -> None:
    """Those that it had in hand are sent to another one."""
    deployment.up(replicas=2)
    stop = False

    def ask(_: int) -> tuple[int, float]:
        count, longest = 0, 0.0
        with deployment.client() as client:
            while not stop:
                began = time.monotonic()
                client.forecast("co2", [WINDOW])
                longest = max(longest, time.monotonic() - began)
                count += 1
        return count, longest

    with ThreadPoolExecutor(4) as pool:
        asking = pool.map(ask, range(4))
        try:
            for _ in range(2):
                victim = deployment.containers("serve")[0]
                deployment.docker("kill", victim)
                eventually(30, lambda: deployment.gateway_knows() == 1)
                deployment.docker("start", victim)
                eventually(60, lambda: deployment.gateway_knows() == 2)
        finally:
            stop = True
        counts, longest = zip(*asking, strict=True)
    print(f"\n{sum(counts)} calls over two kills, the longest took {max(longest):.2f} s")
    deployment.up()


def test_without_a_replica_a_call_is_unavailable(deployment: Deployment) -> None:
    deployment.compose("stop", "serve")
    try:
        with (
            deployment.client() as client,
            pytest.raises(UnavailableError, match="no replica answers the gateway"),
        ):
            client.list_models()
    finally:
        deployment.up()


def test_a_request_that_is_too_large_is_refused_with_the_limit(deployment: Deployment) -> None:
    rows = np.zeros((1_600_000, 3), np.float32)
    with (
        deployment.client() as client,
        pytest.raises(ResourceExhaustedError, match="over the gateway's limit of 17 MiB"),
    ):
        client.forecast("co2", [rows])
