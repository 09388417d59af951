"""Fetching a data set: a real server, wrong bytes, a cut connection, no network."""

import gzip
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tidegate.train.__main__ import main
from tidegate.train.data import catalog, fetch
from tidegate.train.data.catalog import CATALOG, dataset_folder
from tidegate.train.data.corpus import read_tokens
from tidegate.train.data.downloads import DOWNLOADS, Download
from tidegate.train.data.fetch import FetchError

CONTENT = b"the tide\n" * 20_000


class Handler(BaseHTTPRequestHandler):
    """Gives the content, or half of what it announces, or nothing."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if self.path == "/gone":
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        """Nothing on the screen."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def download(
    server: str, name: str = "text", path: str = "text", content: bytes = CONTENT
) -> Download:
    return Download(name, f"{server}/{path}", hashlib.sha256(content).hexdigest())


def test_a_file_is_written_whole_in_a_folder_of_its_own(server: str, tmp_path: Path) -> None:
    written = fetch.fetch([download(server, "train/text")], tmp_path / "new")
    assert written == [tmp_path / "new" / "train" / "text"]
    assert written[0].read_bytes() == CONTENT
    assert list(written[0].parent.iterdir()) == written
    assert written[0].stat().st_mode & 0o777 == 0o644


def test_a_file_is_packed_if_the_catalogue_names_it_so(server: str, tmp_path: Path) -> None:
    (packed,) = fetch.fetch([download(server, "text.gz")], tmp_path)
    assert gzip.decompress(packed.read_bytes()) == CONTENT
    assert read_tokens(packed, "word")[:3] == ["the", "tide", "<eos>"]
    (again,) = fetch.fetch([download(server, "text.gz")], tmp_path / "again")
    assert again.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("name", ["text", "text.gz"])
def test_what_is_there_is_checked_and_not_asked_for_again(
    name: str, server: str, tmp_path: Path
) -> None:
    fetch.fetch([download(server, name)], tmp_path)
    assert fetch.fetch([download(server, name)], tmp_path) == []
    assert len(Handler.requests) == 1


def test_other_contents_in_its_place_are_left_and_named(server: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is there with other contents"):
        fetch.fetch([download(server)], tmp_path)
    assert (tmp_path / "text").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("text", b"another", "gives sha256"),
        ("cut", CONTENT, "the connection was cut after 90000 of 180000 bytes"),
        ("gone", CONTENT, "Not Found"),
    ],
)
def test_what_goes_wrong_leaves_nothing_and_says_what_to_do(
    path: str, content: bytes, reason: str, server: str, tmp_path: Path
) -> None:
    one = download(server, path=path, content=content)
    with pytest.raises(FetchError, match=reason) as failed:
        fetch.fetch([one], tmp_path)
    for part in (one.address, one.sha256, str(tmp_path / "text"), "To do it by hand"):
        assert part in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_any_file_has_are_not_taken(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 1000)
    with pytest.raises(FetchError, match="more than 1000 bytes"):
        fetch.fetch([download(server)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_server_it_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as held:
        # Bound and not listening: nobody answers, and nobody else can take the port.
        held.bind(("127.0.0.1", 0))
        one = download(f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(FetchError, match=r"refused\. To do it by hand: download http://"):
            fetch.fetch([one], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = download(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(FetchError, match="timed out"):
            fetch.fetch([one], tmp_path, seconds=0.05)


@pytest.fixture
def ptb(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple(download(server, name) for name in CATALOG["ptb"].files)
    monkeypatch.setattr(catalog, "DOWNLOADS", {"ptb": files})


@pytest.mark.usefixtures("ptb")
def test_the_command_fetches_to_where_training_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "fetch", "ptb", "--to", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {tmp_path / 'ptb' / 'ptb.valid.txt'}" in printed
    assert f"export TIDEGATE_DATA={tmp_path}" in printed
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    assert dataset_folder(CATALOG["ptb"]) == tmp_path / "ptb"
    assert main(["data", "fetch", "ptb"]) == 0
    assert "3 files, each with the right sha256" in capsys.readouterr().out
    assert len(Handler.requests) == 3


def test_the_command_names_what_is_missing_or_needs_no_fetching(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TIDEGATE_DATA", raising=False)
    assert main(["data", "fetch", "ptb"]) == 2
    assert "--to is missing and TIDEGATE_DATA is not set" in capsys.readouterr().err
    assert main(["data", "fetch", "co2"]) == 2
    assert "has no files to download: Mauna Loa" in capsys.readouterr().err
    assert main(["data", "fetch", "ptbb"]) == 2
    assert "did you mean 'ptb'?" in capsys.readouterr().err


def test_every_file_of_the_catalogue_has_an_address_at_one_commit_and_a_sha256() -> None:
    for dataset in CATALOG.values():
        if dataset.folder is None:
            continue
        known = {one.name for one in DOWNLOADS[dataset.folder]}
        if dataset.format != "slots":
            assert set(dataset.files) <= known
    for one in (one for files in DOWNLOADS.values() for one in files):
        assert one.address.startswith("https://")
        assert any(len(part) == 40 for part in one.address.split("/"))
        assert len(bytes.fromhex(one.sha256)) == 32


@pytest.mark.skipif("TIDEGATE_DATA" not in os.environ, reason="needs TIDEGATE_DATA")
@pytest.mark.parametrize("folder", sorted(DOWNLOADS))
def test_the_files_that_are_here_have_the_catalogues_sha256(folder: str) -> None:
    assert fetch.fetch(DOWNLOADS[folder], Path(os.environ["TIDEGATE_DATA"]) / folder) == []
