"""The server as a process: its command line, health, reflection and imports."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from support.server import ServerProcess
from support.streams import RawStream
from tidegate.client import Client, UnavailableError
from tidegate.client.__main__ import main as client_main
from tidegate.serve import probe
from tidegate.serve.__main__ import main as serve_main
from tidegate.serve.address import is_loopback
from tidegate.serve.grpc_experiments import EXPERIMENTS
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("package", ["tidegate.serve.server", "tidegate.client"])
def test_neither_server_nor_client_loads_training_libraries(package: str) -> None:
    heavy = ["torch", "mlflow", "onnx", "tidegate.train", "pandas", "matplotlib"]
    if package == "tidegate.client":
        heavy += ["onnxruntime", "tidegate.serve"]
    code = f"import sys, {package}; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_the_command_sets_the_experiments_before_grpc_is_loaded() -> None:
    code = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ["GRPC_EXPERIMENTS"])
sys.meta_path.insert(0, Finder())
from tidegate.serve.__main__ import main
main(["--models", "nowhere"])
"""
    env = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert shown.stdout == f"{EXPERIMENTS}\n"


def test_health_and_reflection_know_the_service_and_every_model(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "tidegate.v1.InferenceService", "gru", "labeller"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            health.Check(health_pb2.HealthCheckRequest(service="nope"))
        for name, status in (("CPU", SERVING), ("CUDA", NOT_SERVING)):
            request = health_pb2.HealthCheckRequest(service=f"provider/{name}ExecutionProvider")
            assert health.Check(request).status == status
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "tidegate.v1.InferenceService" in services


def test_a_watcher_of_health_sees_the_drain(models: Path) -> None:
    with (
        ServerProcess(models, "--drain-seconds", "5") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        server.send(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        assert server.wait()[0] == 0


def test_a_drain_waits_for_streams_and_not_for_watchers(models: Path) -> None:
    with (
        ServerProcess(models, "--drain-seconds", "600") as server,
        grpc.insecure_channel(server.target) as channel,
        RawStream(server.target) as stream,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        stream.start("gru", "a")
        server.send(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert stream.receive().WhichOneof("response") == "draining"
        assert server.process.poll() is None
        assert stream.end() == (grpc.StatusCode.OK, "")
        assert server.wait()[0] == 0


def test_logs_are_json_lines_and_warn_of_an_ephemeral_key(models: Path) -> None:
    with ServerProcess(models) as server:
        server.send(signal.SIGTERM)
        status, log = server.wait()
    assert status == 0
    records = [json.loads(line) for line in log.splitlines()]
    (warning,) = [record for record in records if record["level"] == "warning"]
    assert "checkpoints are valid only until this process ends" in warning["message"]
    loaded = {r["model"]: r["provider"] for r in records if r["message"] == "loaded model"}
    assert loaded["gru"] == "CPUExecutionProvider"


def test_a_model_says_what_it_is(client: Client) -> None:
    infos = {(info.name, info.version): info for info in client.list_models()}
    info = infos["versions", "2"]
    assert (info.task, info.direction, info.aliases) == ("forecasting", "causal", ("champion",))
    assert info.provider.endswith("ExecutionProvider")
    assert len(info.sha256) == 64
    assert infos["labeller", "1"].direction == "bidirectional"
    spec = client.get_model("gru").forecast
    assert (spec.horizon, list(spec.targets)) == (4, ["feature_0"])


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_the_server_listens_on_ipv6(models: Path) -> None:
    with ServerProcess(models, "--host", "::1") as server, Client(server.target) as client:
        assert server.target.startswith("[::1]:")
        assert client.list_models()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with Client("127.0.0.1:1", timeout=5) as client, pytest.raises(UnavailableError):
        client.list_models()


REFUSED_OPTIONS = [
    (["--host", "0.0.0.0"], "nothing is encrypted or authenticated.*--insecure"),
    (["--max-batch", "0"], "max_batch is 0; it must be at least 1"),
    (["--models", "/nowhere"], "/nowhere does not exist: pass --models"),
    (["--checkpoint-key-file", "/nowhere"], "checkpoint key file /nowhere cannot be read"),
]


@pytest.mark.parametrize(("options", "text"), REFUSED_OPTIONS)
def test_a_command_line_that_cannot_work_exits_2_with_the_remedy(
    models: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    assert serve_main(["--models", str(models), "--provider", "cpu", *options]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("tidegate-serve: ")
    assert re.search(text, error)


def test_a_short_checkpoint_key_is_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_bytes(b"short")
    assert serve_main(["--models", str(models), "--checkpoint-key-file", str(tmp_path / "key")])
    assert "has 5 bytes; at least 32 are needed" in capsys.readouterr().err


def test_only_this_machine_counts_as_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "[::1]", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))
    assert Settings(host="0.0.0.0", insecure=True).insecure


def test_every_setting_is_an_option_with_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        serve_main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown
    assert "Folder of `<name>/<version>/model.onnx`. Default: models." in shown
    assert (
        "the same for all replicas. Without it, tokens die with the process. Default: none."
        in shown
    )
    assert "live series and their checkpoints: --" in shown


def test_the_client_command_lists_forecasts_and_labels(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, text = tmp_path / "rows.csv", tmp_path / "text.txt"
    table.write_text("feature_2,feature_0,feature_1\n3,1,2\n6,4,5\n")
    text.write_text("the dog barks\n\na cat\n")

    def run(*arguments: str) -> list[str]:
        assert client_main(["--target", f"127.0.0.1:1,{target}", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    assert any("versions/2@champion" in line for line in run("models"))
    forecast = run("forecast", "gru", str(table))
    assert forecast[0] == "step,target,q0.1,q0.5,q0.9"
    assert len(forecast) == 1 + 4
    stream = run("stream", "gru", str(table), "--key", "csv")
    assert [line.removeprefix("1,") for line in stream[5:]] == forecast[1:]
    first, second = run("annotate", "labeller", str(text))
    assert [word.split("/")[0] for word in first.split()] == ["the", "dog", "barks"]
    assert len(second.split()) == 2


def test_the_client_command_names_what_is_wrong(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    for content, text in (
        ("feature_0\n1\n", "lacks ['feature_1', 'feature_2']"),
        ("feature_0,feature_1,feature_2\n1,x,2\n", "line 2, column 'feature_1': 'x' is no number"),
        ("feature_0,feature_1,feature_2\n1,,2\n", "takes no missing values"),
    ):
        table.write_text(content)
        assert client_main(["--target", target, "forecast", "gru", str(table)]) == 1
        assert text in capsys.readouterr().err


def test_the_probe_tells_health_by_its_exit_status(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe.main([target]) == 0
    assert capsys.readouterr().out == f"{target}: SERVING\n"
    assert probe.main(["127.0.0.1:1"]) == 1
    assert "127.0.0.1:1: UNAVAILABLE" in capsys.readouterr().err
