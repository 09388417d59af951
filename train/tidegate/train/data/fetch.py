"""Downloads the files of a data set, each checked against its sha256."""

import gzip
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from tidegate.train.data.downloads import Download

SECONDS = 30.0
# More than any file of the catalogue; a server may send anything.
MOST_BYTES = 1 << 28
_CHUNK = 1 << 16


class FetchError(ValueError):
    """A file could not be had; the text says how to get it by hand."""


def fetch(downloads: Sequence[Download], folder: Path, *, seconds: float = SECONDS) -> list[Path]:
    """Downloads what is not there yet; returns the paths of what was written.

    Each file appears whole and checked, or not at all. One that is there is checked
    and kept.

    Args:
        downloads: of :data:`tidegate.train.data.downloads.DOWNLOADS`.
        folder: that gets the files; made with those above it.
        seconds: that a server may be silent.

    Raises:
        FetchError: there is no network, the connection was cut, or the bytes are
            not those of the checksum; nothing was written of this file.
        ValueError: a file is there with other contents.
    """
    written = []
    for one in downloads:
        target = folder / one.name
        if target.exists():
            _check_present(one, target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(one, target, seconds)
        written.append(target)
    return written


def _download(one: Download, target: Path, seconds: float) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            found = _copy(one, stream, seconds)
        if found != one.sha256:
            raise FetchError(f"{one.address} gives sha256 {found}. {_by_hand(one, target)}")
        # mkstemp makes files private.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FetchError(f"{one.address}: {reason}. {_by_hand(one, target)}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _copy(one: Download, stream: IO[bytes], seconds: float) -> str:
    """Copies what the address gives, packed if need be; returns its sha256."""
    digest = hashlib.sha256()
    # Without name and time the same contents pack to the same bytes.
    packed = gzip.GzipFile("", "wb", 9, stream, mtime=0) if one.packs else stream
    with packed as out, urllib.request.urlopen(one.address, timeout=seconds) as answer:  # noqa: S310 - an address of the catalogue
        for chunk in _chunks(answer):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    announced = answer.length
    received = 0
    while chunk := answer.read(_CHUNK):
        received += len(chunk)
        if received > MOST_BYTES:
            raise OSError(f"more than {MOST_BYTES} bytes")
        yield chunk
    # Reading in parts, http.client takes an early end for the end.
    if announced is not None and received < announced:
        raise OSError(f"the connection was cut after {received} of {announced} bytes")


def _check_present(one: Download, target: Path) -> None:
    digest = hashlib.sha256()
    with gzip.open(target) if one.packs else target.open("rb") as file:
        while chunk := cast("IO[bytes]", file).read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != one.sha256:
        raise ValueError(
            f"{target} is there with other contents (sha256 {digest.hexdigest()}, wanted "
            f"{one.sha256}); move it away and fetch again"
        )


def _by_hand(one: Download, target: Path) -> str:
    packed = " packed with gzip" if one.packs else ""
    return (
        f"To do it by hand: download {one.address}, check that its sha256 is {one.sha256}, and put "
        f"it{packed} at {target}"
    )
