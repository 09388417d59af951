"""TLS and mutual TLS: who is believed, and certificates that are renewed."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from support.certificates import Authority
from support.security import ROW, Ends, client_of, tls_options
from support.server import running_server
from tidegate.client import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


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
