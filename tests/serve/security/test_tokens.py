"""Tokens with roles, and files of them that change or are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from support.security import ROW, Ends, client_of, forecast, table
from support.server import running_server
from tidegate.client import ForecastStream, PermissionDeniedError, UnauthenticatedError
from tidegate.serve.tokens import parse
from tidegate.v1 import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from pathlib import Path


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
