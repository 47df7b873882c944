"""The server's log: one JSON object a line on stderr."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonLines", "log_to_stderr"]


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what `tesk.access` says is one already."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`."""
        if record.name == "tesk.access":
            return record.getMessage()
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "event": "log",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, separators=(",", ":"))


def log_to_stderr() -> None:
    """Write what TESK logs to stderr, unless somebody has already decided where it goes."""
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    logging.getLogger("tesk").setLevel(logging.INFO)
