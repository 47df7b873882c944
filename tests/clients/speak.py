"""A client of another project, led by the tests: a call a line on stdin, its result a line on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def speak(calls: Mapping[str, Callable[..., Any]]) -> None:
    """Make the calls that come as `{"call": name, "with": {...}}`; answers `{"result": ...}` or `{"error": ...}`."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"result": calls[asked["call"]](**asked["with"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
