"""Clients over real sockets whose servers are killed, drained and started again."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from support import onnx_models
from support.server import ServerProcess, running_server
from tidegate.client import Client, Retry, Security, UnauthenticatedError, UnavailableError, aio
from tidegate.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = 60


def values(rows: int = ROWS, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    onnx_models.save(onnx_models.forecaster("gru", differenced=True), path, "gru")
    onnx_models.save(onnx_models.labeller(), path, "labeller")
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("keys") / "checkpoint.key"
    path.write_bytes(bytes(32))
    return ["--checkpoint-key-file", str(path)]


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The forecast after every row of two series that nothing disturbs."""
    with (
        running_server(folder) as target,
        Client(target) as client,
        client.stream("gru", ["a", "b"], every_step=True) as stream,
    ):
        return stream.send_many({"a": values(seed=1), "b": values(seed=2)})


def messages() -> Iterator[dict[str, NDArray[np.float32]]]:
    for row in range(ROWS):
        yield {"a": values(seed=1)[row : row + 1], "b": values(seed=2)[row : row + 1]}


def assert_equal(
    answers: list[dict[str, NDArray[np.float32]]], expected: dict[str, NDArray[np.float32]]
) -> None:
    assert len(answers) == ROWS
    for key, forecasts in expected.items():
        np.testing.assert_array_equal([answer[key][-1] for answer in answers], forecasts)


def test_a_stream_is_one_iterator_over_servers_that_are_killed(
    folder: Path, options: list[str], expected: dict[str, NDArray[np.float32]]
) -> None:
    with ServerProcess(folder, *options) as first, ServerProcess(folder, *options) as second:
        targets = [first.target, second.target]
        port = first.target.rpartition(":")[2]
        with Client(targets) as client, client.stream("gru", ["a", "b"]) as stream:
            answers = []
            for answer in stream.map(messages()):
                answers.append(answer)
                if len(answers) == 20:
                    first.send(signal.SIGKILL)
                    first.wait()
                if len(answers) == 40:
                    third = ServerProcess(folder, *options, "--port", port)
                    second.send(signal.SIGKILL)
            with third:
                assert stream.next_offset("a") == ROWS
                stream.close()
    assert_equal(answers, expected)


def test_with_one_server_the_stream_waits_until_it_is_back(
    folder: Path, options: list[str], expected: dict[str, NDArray[np.float32]]
) -> None:
    server = ServerProcess(folder, *options)
    target = server.target
    port = target.rpartition(":")[2]
    back: list[ServerProcess] = []
    again = threading.Thread(
        target=lambda: back.append(ServerProcess(folder, *options, "--port", port))
    )
    with server, Client(target) as client, client.stream("gru", ["a", "b"]) as stream:
        answers = []
        for answer in stream.map(messages()):
            answers.append(answer)
            if len(answers) == 30:
                server.send(signal.SIGKILL)
                server.wait()
                again.start()
        again.join()
        with back[0]:
            stream.close()
    assert_equal(answers, expected)


async def test_the_awaited_client_resumes_too(
    folder: Path, options: list[str], expected: dict[str, NDArray[np.float32]]
) -> None:
    with ServerProcess(folder, *options) as first, ServerProcess(folder, *options) as second:
        async with (
            aio.Client([first.target, second.target]) as client,
            await client.stream("gru", ["a", "b"]) as stream,
        ):
            answers = []
            async for answer in stream.map(messages()):
                answers.append(answer)
                if len(answers) == 25:
                    first.send(signal.SIGKILL)
    assert_equal(answers, expected)


def test_a_drained_server_is_left_before_it_stops(
    folder: Path, options: list[str], expected: dict[str, NDArray[np.float32]]
) -> None:
    with (
        ServerProcess(folder, *options, "--drain-seconds", "20") as first,
        ServerProcess(folder, *options) as second,
        Client([first.target, second.target]) as client,
        client.stream("gru", ["a", "b"]) as stream,
    ):
        answers = []
        for answer in stream.map(messages()):
            answers.append(answer)
            if len(answers) == 25:
                first.send(signal.SIGTERM)
            if first.process.poll() is not None:
                break
        # It ends as soon as nobody is left, long before its time.
        status, log = first.wait()
        assert (status, '"level": "error"' in log) == (0, False)
        answers.extend(stream.map(list(messages())[len(answers) :]))
    assert_equal(answers, expected)


def test_a_drain_that_runs_out_of_time_is_a_lost_connection(
    folder: Path, options: list[str], expected: dict[str, NDArray[np.float32]]
) -> None:
    with (
        ServerProcess(folder, *options, "--drain-seconds", "0.1") as first,
        ServerProcess(folder, *options) as second,
        Client([first.target, second.target]) as client,
        client.stream("gru", ["a", "b"]) as stream,
    ):
        answers = [stream.send_many(message) for message in list(messages())[:30]]
        first.send(signal.SIGTERM)
        assert first.wait()[0] == 0
        answers.extend(stream.map(list(messages())[30:]))
    assert_equal(answers, expected)


async def test_a_drain_under_load_loses_no_observation_of_any_stream(
    folder: Path, options: list[str]
) -> None:
    streams, rows = 24, 40
    halfway = asyncio.Barrier(streams + 1)
    with ServerProcess(folder, *options) as first, ServerProcess(folder, *options) as second:
        async with aio.Client([first.target, second.target]) as client:

            async def one(number: int) -> NDArray[np.float32]:
                async with await client.stream("gru", [f"{number}"]) as stream:
                    for offset, row in enumerate(values(rows, seed=number)):
                        if offset == rows // 2:
                            await halfway.wait()
                        last = await stream.step(f"{number}", row)
                    assert stream.next_offset(f"{number}") == rows
                return last

            async def drain() -> tuple[int, str]:
                await halfway.wait()
                first.send(signal.SIGTERM)
                return await asyncio.to_thread(first.wait)

            draining = asyncio.create_task(drain())
            together = await asyncio.gather(*map(one, range(streams)))
            status, log = await draining
            assert (status, '"level": "error"' in log) == (0, False)
        async with aio.Client(second.target) as client:
            windows = [values(rows, seed=number) for number in range(streams)]
            np.testing.assert_array_equal(together, await client.forecast("gru", windows))


def test_other_calls_ask_the_next_server(folder: Path) -> None:
    with running_server(folder) as target, Client(["127.0.0.1:1", target]) as client:
        assert {model.name for model in client.list_models()} == {"gru", "labeller"}
    with Client(["127.0.0.1:1", "127.0.0.1:2"]) as client, pytest.raises(UnavailableError):
        client.list_models()
    with pytest.raises(ValueError, match="target is empty"):
        Client([])


def test_a_lost_stream_is_given_up_when_the_time_is_up(folder: Path, options: list[str]) -> None:
    with ServerProcess(folder, *options) as server:
        retry = Retry(seconds=0.2, first=0.01)
        with Client(server.target, retry=retry) as client:
            stream = client.stream("gru", ["a"])
            stream.step("a", [1, 2, 3])
            server.send(signal.SIGKILL)
            server.wait()
            with pytest.raises(UnavailableError):
                stream.step("a", [1, 2, 3])
            stream.close()


async def test_many_tasks_share_an_awaited_stream(folder: Path) -> None:
    with running_server(folder) as target:
        async with aio.Client(target) as client:
            keys = [f"{number}" for number in range(20)]
            async with await client.stream("gru", keys) as stream:

                async def one(key: str) -> NDArray[np.float32]:
                    for row in values(5, seed=int(key)):
                        last = await stream.step(key, row)
                    return last

                together = await asyncio.gather(*map(one, keys))
            windows = [values(5, seed=int(key)) for key in keys]
            np.testing.assert_array_equal(together, await client.forecast("gru", windows))


async def test_the_awaited_client_asks_everything_that_the_other_does(folder: Path) -> None:
    with running_server(folder) as target:
        async with aio.Client(target) as client:
            assert {model.name for model in await client.list_models()} == {"gru", "labeller"}
            (annotation,) = await client.annotate("labeller", [["the", "dog"]])
            assert len(annotation.labels) == 2
            async with await client.stream("gru", ["a"]) as stream:
                assert stream.model == "gru/1"
                await stream.send("a", values(3))
                token = await stream.checkpoint("a")
                await stream.start({"b": b""})
                assert set(await stream.checkpoint_all()) == {"a", "b"}
                await stream.finish("a")
                await stream.start({"a": token})
                assert stream.next_offset("a") == 3
                assert stream.series == ("b", "a")


async def test_a_cancelled_step_of_an_awaited_stream_does_no_harm(folder: Path) -> None:
    with running_server(folder) as target:
        async with aio.Client(target) as client, await client.stream("gru", ["a"]) as stream:
            for row in values(10):
                step = asyncio.ensure_future(stream.step("a", row))
                await asyncio.sleep(0)
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
                assert stream.next_offset("a") < 10
                last = await stream.step("a", row)
            np.testing.assert_array_equal(last, (await client.forecast("gru", [values(10)]))[0])


def test_sentences_come_in_as_many_requests_as_they_need(folder: Path) -> None:
    with running_server(folder, max_sentences=256) as target, Client(target) as client:
        sentences = (["the", "dog"] for _ in range(600))
        assert len(client.annotate("labeller", sentences)) == 600


class Picky:
    """Lists models to who has the token, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.handler = grpc.method_handlers_generic_handler(
            "tidegate.v1.InferenceService",
            {
                "ListModels": grpc.unary_unary_rpc_method_handler(
                    self._list,
                    request_deserializer=pb.ListModelsRequest.FromString,
                    response_serializer=pb.ListModelsResponse.SerializeToString,
                )
            },
        )

    def _list(self, _: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        self.asked += 1
        if ("authorization", "Bearer right") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return pb.ListModelsResponse()


def test_the_token_is_sent_and_a_wrong_one_is_not_tried_again() -> None:
    picky = Picky()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((picky.handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}", security=Security(token="right")) as client:  # noqa: S106 - no secret
        assert client.list_models() == []
    twice = [f"127.0.0.1:{port}"] * 2
    with Client(twice) as client, pytest.raises(UnauthenticatedError, match="who are you"):
        client.list_models()
    assert picky.asked == 2
    server.stop(0).wait()
