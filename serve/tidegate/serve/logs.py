"""Logs as one JSON object a line; never a payload."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# What every record says that is logged while a call is answered: its request id,
# and its model once that is known.
call_fields: ContextVar[dict[str, str] | None] = ContextVar("call_fields", default=None)


class JsonFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, process, message, call, `extra`, and the trace."""

    def format(self, record: logging.LogRecord) -> str:
        """Renders one record."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        entry.update(call_fields.get() or {})
        entry.update((key, value) for key, value in vars(record).items() if key not in _OWN)
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(level: str) -> None:
    """Sends all logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
