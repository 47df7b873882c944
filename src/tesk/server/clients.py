"""What single clients cannot read in an otherwise right answer: the one table of workarounds.

Here is only what would be wrong, or a loss, for everybody else. What one client needs and no other minds (an answer to
create of exactly one key, filled in types, the old service-info, ...) is done for all and listed in docs/api.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from tesk.tes.models import INT32_MAX

__all__ = ["WORKAROUNDS", "Workaround", "for_client"]

_LARGE_SIZE = re.compile(rb'"size_bytes":"\d{10,}"')


def _without_large_sizes(task: bytes) -> bytes:
    if not _LARGE_SIZE.search(task):
        return task
    found = json.loads(task)
    for log in found.get("logs", ()):
        for output in log["outputs"]:
            if int(output["size_bytes"]) > INT32_MAX:
                del output["size_bytes"]
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Workaround:
    """`change` is applied to the encoded tasks that go to clients whose User-Agent matches `agent`."""

    client: str
    agent: re.Pattern[str]
    why: str
    change: Callable[[bytes], bytes]


WORKAROUNDS = (
    Workaround(
        "Cromwell",
        re.compile(r"(akka|pekko)-http/"),
        "reads size_bytes into 32 bits and fails the call of a larger file; it does without the key",
        _without_large_sizes,
    ),
)


def for_client(agent: str, task: bytes) -> bytes:
    """`task`, encoded, as the client can read it that calls itself `agent`."""
    for one in WORKAROUNDS:
        if one.agent.match(agent):
            task = one.change(task)
    return task
