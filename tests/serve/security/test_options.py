"""Options of security: what is missing, what is left open, and the client's command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from support.certificates import Authority
from support.security import tls_options
from support.server import running_server
from tidegate.client import Security
from tidegate.client.__main__ import main as client_main
from tidegate.serve.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE = "0.0.0.0"


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
