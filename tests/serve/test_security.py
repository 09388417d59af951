"""TLS, mutual TLS, tokens with roles and rates, and hosts that others can reach."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import socket
import ssl
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from support.certificates import Authority
from support.server import running_server
from tidegate.client import (
    Client,
    ForecastStream,
    PermissionDeniedError,
    ResourceExhaustedError,
    Security,
    UnauthenticatedError,
    UnavailableError,
)
from tidegate.client.__main__ import main as client_main
from tidegate.serve.logs import JsonFormatter
from tidegate.serve.rate_limit import TokenBucket
from tidegate.serve.settings import Settings
from tidegate.serve.tokens import parse
from tidegate.v1 import inference_pb2 as pb
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROW = np.zeros(3, np.float32)
EVERYWHERE = "0.0.0.0"  # noqa: S104


def table(name: str, roles: str, secret: str = "", **limits: float) -> str:
    """A token whose text is `secret-NAME`, or `secret-SECRET`."""
    digest = hashlib.sha256(f"secret-{secret or name}".encode()).hexdigest()
    lines = [f'name = "{name}"', f'sha256 = "{digest}"', f"roles = {roles}"]
    lines += [f"{key} = {value}" for key, value in limits.items()]
    return "[[tokens]]\n" + "\n".join(lines) + "\n"


class Ends(logging.Handler):
    """Keeps what the log says of calls that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._queue: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "call ended":
            self._queue.put(json.loads(self.format(record)))

    def next(self) -> dict[str, str]:
        return self._queue.get(timeout=10)


@pytest.fixture
def ends(caplog: pytest.LogCaptureFixture) -> Iterator[Ends]:
    handler = Ends()
    logging.getLogger().addHandler(handler)
    with caplog.at_level(logging.INFO):
        yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        table("sensors", '["infer"]')
        + table("dashboard", '["read"]')
        + table("operator", '["admin"]')
        + table("both", '["infer", "read"]')
    )
    return path


def client_of(target: str, name: str = "", **security: Any) -> Client:
    token = f"secret-{name}" if name else ""
    return Client(target, timeout=10, security=Security(token=token, **security))


def forecast(client: Client) -> None:
    """Without asking for the spec first, which needs the role read."""
    window = pb.Window(rows=1, values=ROW.tobytes())
    request = pb.ForecastRequest(model=pb.ModelReference(name="gru"), windows=[window])
    client._stubs[0].Forecast(request)


def tls_options(authority: Authority, **options: Any) -> dict[str, Any]:
    certificate, key = authority.issue("server")
    return {"tls_certificate": certificate, "tls_key": key, **options}


def test_a_client_that_believes_the_authority_talks_over_tls(models: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    stranger = Authority(tmp_path, "stranger")
    with running_server(models, **tls_options(authority)) as target:
        with (
            client_of(target, tls=True, ca=authority.path) as client,
            client.stream("gru", ["a"]) as stream,
        ):
            stream.step("a", ROW)
        for other in (client_of(target), client_of(target, tls=True, ca=stranger.path)):
            with other, pytest.raises(UnavailableError):
                other.list_models()


def test_with_mutual_tls_a_client_must_show_a_certificate_of_the_authority(
    models: Path, tmp_path: Path, ends: Ends
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    options = tls_options(authority, tls_client_ca=authority.path)
    certificate, key = authority.issue("sensor-7")
    with running_server(models, **options) as target:
        trusted: dict[str, Any] = {"tls": True, "ca": authority.path}
        with client_of(target, certificate=certificate, key=key, **trusted) as client:
            client.stream("gru", ["a"]).close()
            assert ends.next()["identity"] == "certificate:sensor-7"
        certificate, key = stranger.issue("sensor-8")
        foreign = {"certificate": certificate, "key": key}
        for shown in (trusted, trusted | foreign):
            with client_of(target, **shown) as client, pytest.raises(UnavailableError):
                client.list_models()


def shown_certificate(target: str) -> bytes:
    """What a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = target.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_shown_to_new_connections_and_live_ones_stay(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    with running_server(models, **tls_options(authority)) as target:
        with (
            client_of(target, tls=True, ca=authority.path) as client,
            client.stream("gru", ["a"]) as stream,
        ):
            stream.step("a", ROW)
            before = shown_certificate(target)
            authority.issue("server")
            after = shown_certificate(target)
            assert before != after == shown_certificate(target)
            stream.step("a", ROW)
            (tmp_path / "server.key").unlink()
            assert shown_certificate(target) == after
        assert "the certificates stay as they were" in caplog.text
        with client_of(target, tls=True, ca=authority.path) as client:
            assert client.list_models()


def test_a_token_opens_what_its_role_allows(models: Path, tokens: Path, ends: Ends) -> None:
    with running_server(models, tokens=tokens) as target:
        with client_of(target, "dashboard") as client:
            assert client.list_models()
            assert client.get_model("gru").forecast.horizon == 4
            with pytest.raises(grpc.RpcError) as raised:
                forecast(client)
            assert raised.value.code() == grpc.StatusCode.PERMISSION_DENIED
            assert ends.next()["code"] == "PERMISSION_DENIED"
        with client_of(target, "sensors") as client:
            forecast(client)
            with pytest.raises(
                PermissionDeniedError,
                match=r"token 'sensors' has the roles \['infer'\]; this call needs 'read'",
            ):
                client.list_models()
            assert ends.next()["method"] == "ListModels"
        for name in ("both", "operator"):
            with client_of(target, name) as client, client.stream("gru", ["a"]) as stream:
                stream.step("a", ROW)
            assert ends.next()["identity"] == f"token:{name}"


def test_whoever_may_infer_needs_no_other_role_for_any_kind_of_inference(
    models: Path, tokens: Path
) -> None:
    with (
        running_server(models, tokens=tokens) as target,
        client_of(target, "sensors") as client,
        client.stream("gru", ["a"]) as stream,
    ):
        last = stream.step("a", ROW)
        np.testing.assert_array_equal(last, client.forecast("gru", [ROW[None]])[0])
        assert len(client.annotate("labeller", [["the", "dog"]])[0].labels) == 2
        assert stream.spec == client.get_model("gru").forecast


def test_a_token_that_is_taken_away_ends_its_streams_and_keeps_their_series(
    models: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.serve.server._TOKENS_SECONDS", 0.02)
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    key_file = tokens.with_name("checkpoint.key")
    key_file.write_bytes(bytes(32))
    with (
        running_server(models, tokens=tokens, checkpoint_key_file=key_file) as target,
        client_of(target, "both") as other,
        other.stream("gru", ["b"]) as undisturbed,
    ):
        with client_of(target, "sensors") as client:
            stream = client.stream("gru", ["a"], checkpoint_every=100)
            stream.send("a", rows[:4])
            replaced = table("both", '["infer"]') + table("sensors", '["infer"]', "new")
            write(tokens, replaced)
            text = r"token 'sensors' is not known to this server any more: its series are kept"
            with pytest.raises(UnauthenticatedError, match=text):
                keep_asking(stream)
            offset, token = stream.next_offset("a"), stream.checkpoints["a"]
            stream.close()
        undisturbed.step("b", rows[0])
        # The same name has another secret by now: by its key, or by its checkpoint.
        with client_of(target, "new") as client:
            with client.stream("gru", ["a"]) as stream:
                assert stream.next_offset("a") == offset
            with client.stream("gru", {"a": token}) as stream:
                assert stream.next_offset("a") == offset
        with pytest.raises(PermissionDeniedError):
            undisturbed.start({"a": token})
        write(tokens, table("both", '["read"]'))
        with pytest.raises(PermissionDeniedError, match=r"'both' has not the role 'infer' any"):
            keep_asking(undisturbed, "b")


def write(path: Path, text: str) -> None:
    """In one piece, as an editor does."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def keep_asking(stream: ForecastStream, key: str = "a") -> None:
    """Asks for what changes nothing until it is refused."""
    while True:
        stream.checkpoint(key)


def test_no_token_and_an_unknown_one_are_refused_and_health_needs_none(
    models: Path, tokens: Path
) -> None:
    with running_server(models, tokens=tokens) as target:
        with client_of(target) as client, pytest.raises(UnauthenticatedError, match="Bearer TOKEN"):
            client.list_models()
        with (
            client_of(target, "nobody") as client,
            pytest.raises(UnauthenticatedError, match="is not known to this server"),
        ):
            client.list_models()
        with grpc.insecure_channel(target) as channel:
            stub: Any = pb_grpc.InferenceServiceStub(channel)
            for metadata in ((), (("authorization", "Basic c2VjcmV0LWJvdGg="),)):
                call = stub.StreamForecast(iter(()), metadata=metadata)
                with pytest.raises(grpc.RpcError) as raised:
                    next(call)
                assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest()).status == 1
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                ProtoReflectionDescriptorDatabase(channel).get_services()


def test_changed_tokens_are_read_again_and_wrong_ones_leave_the_old(
    models: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server(models, tokens=tokens) as target, client_of(target, "late") as client:
        with pytest.raises(UnauthenticatedError):
            client.list_models()
        tokens.write_text(table("late", '["read"]'))
        assert client.list_models()
        tokens.write_text("[[tokens]]")
        assert client.list_models()
        assert "the tokens stay as they were" in caplog.text
        tokens.write_text(table("other", '["read"]'))
        with pytest.raises(UnauthenticatedError):
            client.list_models()
    assert "secret" not in caplog.text


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


def test_a_certificate_that_does_not_fit_its_key_is_refused_at_the_start(
    models: Path, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("server")
    _, key = authority.issue("other")
    (tmp_path / "none.pem").write_text("no certificate")
    for file in (certificate, tmp_path / "none.pem"):
        with (
            pytest.raises(ValueError, match=f"TLS certificate .*{file.name} and key .* cannot be"),
            running_server(models, tls_certificate=file, tls_key=key),
        ):
            pass


def test_a_half_renewed_pair_is_taken_once_it_is_whole(models: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with running_server(models, **tls_options(authority)) as target:
        before = shown_certificate(target)
        old_key = (tmp_path / "server.key").read_bytes()
        authority.issue("server")
        new_key = (tmp_path / "server.key").read_bytes()
        (tmp_path / "server.key").write_bytes(old_key)
        assert shown_certificate(target) == before
        (tmp_path / "server.key").write_bytes(new_key)
        assert shown_certificate(target) != before


WRONG_TOKENS = [
    ("", "needs \\[\\[tokens\\]\\] tables"),
    ("x =", "it is no TOML"),
    ("other = 1\n" + table("a", '["infer"]'), "and nothing else; it has \\['other'\\]"),
    ("[[tokens]]\nroles = []", "token 1 has no name"),
    (table("a", '["infer"]').replace("sha256", "sha"), "has unknown keys \\['sha'\\]"),
    (table("a", '["infer"]').replace('sha256 = "', 'sha256 = "x'), "needs sha256"),
    (table("a", '["root"]'), "has the roles \\['root'\\]"),
    (table("a", "[]"), "has the roles \\[\\]"),
    (table("a", '["infer"]', requests_per_second=0), "requests_per_second = 0; use a number above"),
    (table("a", '["infer"]', burst=3), "requests_per_second = None"),
    (table("a", '["infer"]') * 2, "two tokens have the same name"),
    (table("a", '["infer"]') + table("a", '["read"]').replace('"a"', '"b"'), "the same digest"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG_TOKENS)
def test_a_wrong_tokens_file_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(text)


def test_a_host_that_others_reach_needs_tls_or_tokens_or_a_word(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --tls-certificate and --tls-key, or --tokens"):
        Settings(host=EVERYWHERE)
    file = tmp_path / "file"
    assert not Settings(host=EVERYWHERE, tls_certificate=file, tls_key=file).is_open
    assert not Settings(host=EVERYWHERE, tokens=file).is_open
    assert Settings(host=EVERYWHERE, insecure=True).is_open
    assert not Settings().is_open


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tls_certificate": "x"}, "tls_certificate and tls_key go together"),
        ({"tls_client_ca": "x"}, "tls_client_ca needs tls_certificate"),
    ],
)
def test_half_of_a_tls_setup_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Settings(**options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tokens": "no"}, "tokens file .*no cannot be read: No such file"),
        ({"tls_certificate": "no", "tls_key": "no"}, "TLS file .*no cannot be read: No such file"),
    ],
)
def test_a_file_that_is_not_there_is_named_at_the_start(
    models: Path, tmp_path: Path, options: dict[str, str], text: str
) -> None:
    paths = {key: tmp_path / name for key, name in options.items()}
    with pytest.raises(ValueError, match=text), running_server(models, **paths):
        pass


@pytest.mark.parametrize("with_tokens", [False, True])
def test_what_others_can_read_is_warned_of(
    models: Path, tokens: Path, caplog: pytest.LogCaptureFixture, with_tokens: bool
) -> None:
    options = {"tokens": tokens} if with_tokens else {"insecure": True}
    with running_server(models, host=EVERYWHERE, **options):
        pass
    text = "tokens and data cross the network readably" if with_tokens else "may use this server"
    assert text in caplog.text


def test_a_client_says_which_of_its_options_is_missing() -> None:
    with pytest.raises(ValueError, match="certificate and key go together"):
        Security(tls=True, certificate="a")
    with pytest.raises(ValueError, match="need tls=True"):
        Security(ca="a")


def test_the_client_command_takes_certificates_and_a_token(
    models: Path,
    tmp_path: Path,
    tokens: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "token").write_text("secret-dashboard\n")
    with running_server(models, tokens=tokens, **tls_options(authority)) as target:
        command = ["--target", target, "--tls-ca", str(authority.path)]
        assert client_main([*command, "--token-file", str(tmp_path / "token"), "models"]) == 0
        monkeypatch.setitem(os.environ, "TIDEGATE_TOKEN", "secret-dashboard")
        assert client_main([*command, "models"]) == 0
        monkeypatch.delitem(os.environ, "TIDEGATE_TOKEN")
        capsys.readouterr()
        assert client_main([*command, "models"]) == 1
    assert "this server wants a token" in capsys.readouterr().err
