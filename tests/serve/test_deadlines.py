"""What nobody waits for any more is not computed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from support.executor import HeldExecutor, turns
from support.server import running_server
from tidegate.serve.forecast import Window, forecast_windows
from tidegate.serve.model import load_model
from tidegate.serve.runner import Runner
from tidegate.serve.settings import Settings
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_request_whose_deadline_passes_makes_no_further_run(models: Path) -> None:
    settings = Settings(provider="cpu", max_batch=1)
    model = load_model("gru", "1", models / "gru" / "1" / "model.onnx", settings)
    executor = HeldExecutor()
    window = Window(1, bytes(12))
    request = asyncio.ensure_future(
        forecast_windows(model, [window] * 3, Runner(settings, executor), settings)
    )
    await turns()
    executor.release()
    await turns()
    assert executor.submitted == 2
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    executor.release()
    await turns()
    # The one that was under way is the last.
    assert executor.submitted == 2


def test_a_deadline_that_is_over_gets_its_status_and_the_server_goes_on(models: Path) -> None:
    rows = np.zeros((2_000, 3), "<f4")
    window = pb.Window(rows=len(rows), values=rows.tobytes())
    request = pb.ForecastRequest(model=pb.ModelReference(name="gru"), windows=[window] * 40)
    with running_server(models) as target, grpc.insecure_channel(target) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as late:
            stub.Forecast(request, timeout=0.02)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert stub.Forecast(pb.ForecastRequest(model=request.model)).model == "gru"
