"""The secrets and certificates of the deployment, as `make secrets` and `make certs` write them."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tidegate.serve.tokens import parse

ROOT = Path(__file__).parents[2]
SCRIPTS = ("secrets.sh", "certs.sh")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of deploy/ with what the scripts write."""
    for name in SCRIPTS:
        shutil.copy(ROOT / "deploy" / name, tmp_path)
    run(tmp_path)
    return tmp_path


def run(folder: Path, **environment: str) -> None:
    for name in SCRIPTS:
        subprocess.run([folder / name], check=True, env={"PATH": "/usr/bin:/bin", **environment})


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_they_are_written_once(folder: Path) -> None:
    before = contents(folder)
    assert len(before) > 10
    run(folder)
    assert contents(folder) == before


def test_every_secret_is_random_and_its_own(folder: Path) -> None:
    files = [path for path in (folder / "secrets").iterdir() if not path.suffix]
    values = {path.read_text() for path in files}
    assert len(values) == len(files) > 4
    assert {len(value) for value in values} == {64}


def test_nobody_else_on_the_host_reads_them(folder: Path) -> None:
    for name in ("secrets", "certs"):
        assert (folder / name).stat().st_mode & 0o777 == 0o700
    keys = list((folder / "certs").glob("*.key"))
    assert {key.stem for key in keys} == {"ca", "gateway", "client"}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_git_ignores_them() -> None:
    paths = ["deploy/secrets/client_token", "deploy/certs/ca.key", "deploy/certs/client.pem"]
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "check-ignore", *paths]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == paths


def test_the_server_knows_the_token_of_the_client_and_redis_the_password(folder: Path) -> None:
    token = (folder / "secrets" / "client_token").read_text()
    (known,) = parse((folder / "secrets" / "tokens.toml").read_text())
    assert known.digest == hashlib.sha256(token.encode()).digest()
    assert known.roles == {"infer", "read"}
    password = (folder / "secrets" / "redis_password").read_bytes()
    assert f"#{hashlib.sha256(password).hexdigest()} " in (folder / "secrets/redis.acl").read_text()


def test_the_authority_signs_the_gateway_and_the_client(folder: Path) -> None:
    certs = folder / "certs"
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    authority = x509.load_pem_x509_certificate((certs / "ca.pem").read_bytes())
    for name in ("gateway", "client"):
        certificate = x509.load_pem_x509_certificate((certs / f"{name}.pem").read_bytes())
        certificate.verify_directly_issued_by(authority)


def test_the_gateway_takes_further_names(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / "certs.sh", tmp_path)
    names = {"GATEWAY_NAMES": "DNS:forecasts.example.org", "PATH": "/usr/bin:/bin"}
    subprocess.run([tmp_path / "certs.sh"], check=True, env=names)
    certificate = x509.load_pem_x509_certificate((tmp_path / "certs/gateway.pem").read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == [
        "localhost",
        "gateway",
        "forecasts.example.org",
    ]
