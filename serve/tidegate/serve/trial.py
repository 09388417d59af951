"""Each ONNX file is loaded in a process of its own first.

ONNX Runtime ends its process on some damaged files (an assertion in native code),
and may allocate or compute without end on others. A file that does so is refused,
and the server goes on.

The process is this module: it reads files from standard input, each as its length
in 8 bytes and its content, and answers each with a line of JSON: null, or why the
file cannot be served.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from tidegate.serve.errors import LoadError
from tidegate.serve.loading import load_content

if TYPE_CHECKING:
    from tidegate.serve.settings import Settings

_LENGTH = struct.Struct("<Q")
# What has passed in another process would pass again.
_passed: set[tuple[bytes, str, int, bool]] = set()


class Trial:
    """Tries files in another process, which ends with the context; one at a time.

    Args:
        settings: Where and how the files are run, and the time that each has.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self, content: bytes) -> None:
        """Loads and runs a file there, as it will be loaded here.

        Raises:
            LoadError: It cannot be served, or the process did not survive it.
        """
        settings = self._settings
        digest = hashlib.sha256(content).digest()
        asked = digest, settings.provider, settings.threads, settings.tf32
        if not settings.trial_seconds or asked in _passed:
            return
        reason = self._ask(content)
        if reason is not None:
            raise LoadError(reason)
        _passed.add(asked)

    def _ask(self, content: bytes) -> str | None:
        process = self._started()
        seconds = self._settings.trial_seconds
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            line = _exchange(process, content)
        finally:
            timer.cancel()
        if line:
            answer: str | None = json.loads(line)
            return answer
        status = self._end()
        if late.is_set():
            return f"loading the file took more than {seconds:g} s (--trial-seconds)"
        return (
            f"a process that loaded the file ended with {_named(status)}: the file is damaged, or "
            "ONNX Runtime has a bug"
        )

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            settings = self._settings
            options = json.dumps([settings.provider, settings.threads, settings.tf32])
            self._process = subprocess.Popen(  # noqa: S603 - of this very module
                [sys.executable, "-P", "-m", "tidegate.serve.trial", options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        with contextlib.suppress(OSError):
            # What it did not read is written when the pipe is closed.
            process.communicate()
        return process.wait()


def _exchange(process: subprocess.Popen[bytes], content: bytes) -> bytes:
    """Sends a file and reads the answer; empty if the process has ended."""
    if process.stdin is None or process.stdout is None:
        return b""
    try:
        process.stdin.write(_LENGTH.pack(len(content)))
        process.stdin.write(content)
        process.stdin.flush()
    except OSError:
        return b""
    return process.stdout.readline()


def _named(status: int) -> str:
    return f"status {status}" if status >= 0 else signal.Signals(-status).name


def main() -> None:
    """Tries files until standard input ends."""
    provider, threads, tf32 = json.loads(sys.argv[1])
    with contextlib.suppress(OSError):
        # Linux: where memory runs out, this process goes and not the server.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    # Native code prints what it likes; the answers keep the pipe to themselves.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        while content := _read(sys.stdin.buffer):
            reason = None
            try:
                load_content(content, provider, threads, tf32=tf32)
            except LoadError as error:
                reason = str(error)
            print(json.dumps(reason), file=answers, flush=True)


def _read(stream: IO[bytes]) -> bytes:
    header = stream.read(_LENGTH.size)
    return stream.read(*_LENGTH.unpack(header)) if header else b""


if __name__ == "__main__":
    main()
