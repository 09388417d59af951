"""Rates of tokens: calls are refused with a delay, streams are slowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from support.security import ROW, client_of, forecast, table
from support.server import running_server
from tidegate.client import ResourceExhaustedError
from tidegate.serve.rate_limit import TokenBucket

if TYPE_CHECKING:
    from pathlib import Path


def test_calls_over_a_tokens_rate_are_refused_with_the_delay(models: Path, tokens: Path) -> None:
    tokens.write_text(table("slow", '["admin"]', requests_per_second=0.001, burst=2))
    with running_server(models, tokens=tokens) as target, client_of(target, "slow") as client:
        client.list_models()
        client.list_models()
        with pytest.raises(ResourceExhaustedError, match="token 'slow' has made") as raised:
            client.list_models()
        assert raised.value.retry_seconds == pytest.approx(1000, rel=0.1)
        with pytest.raises(grpc.RpcError) as error:
            forecast(client)
        status = rpc_status.from_call(error.value)  # type: ignore[arg-type]  # a Call too
        retry = error_details_pb2.RetryInfo()
        assert status is not None
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.seconds > 900


def test_a_stream_over_its_rate_is_slowed_and_loses_nothing(models: Path, tokens: Path) -> None:
    tokens.write_text(table("slow", '["admin"]', requests_per_second=200, burst=3))
    with (
        running_server(models, tokens=tokens) as target,
        client_of(target, "slow") as client,
        client.stream("gru", ["a"]) as stream,
    ):
        for _ in range(30):
            stream.step("a", ROW)
        assert stream.next_offset("a") == 30


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 50),
    waits=st.lists(st.floats(0, 5), max_size=60),
    reserving=st.booleans(),
)
def test_a_bucket_lets_no_more_pass_than_its_rate_and_burst(
    rate: float, burst: float, waits: list[float], reserving: bool
) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, lambda: now)
    passed = 0
    for wait in waits:
        now += wait
        if reserving:
            now += bucket.reserve()
            passed += 1
        else:
            refused = bucket.take()
            passed += refused == 0
            assert 0 <= refused <= 1 / rate + 1e-9
        assert passed <= burst + rate * now + 1e-6
