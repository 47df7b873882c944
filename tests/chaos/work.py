"""Tasks of every kind, drawn from a seed, each with what must become of it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Kind", "Work", "draw"]

_LONGEST_SECONDS = 0.8
_MOST_BYTES = 200_000


@dataclass(frozen=True)
class Kind:
    """What may become of a task: the states that it may end in, and the exit codes of its last attempt."""

    states: frozenset[str]
    codes: tuple[int, ...] = ()
    says: str = ""
    """Words of the last attempt's `system_logs`."""


COPIED = Kind(frozenset({"COMPLETE"}), (0, 0))
FAILED = Kind(frozenset({"EXECUTOR_ERROR"}), (3,), "executor 0 ended with exit code 3")
LISTED = Kind(frozenset({"COMPLETE"}), (0,))
FORGOT = Kind(frozenset({"SYSTEM_ERROR"}), (0,), "/data/none")
ABSENT = Kind(frozenset({"SYSTEM_ERROR"}), (), "does not exist")
CANCELED = Kind(frozenset({"CANCELED", "COMPLETE"}))


@dataclass(frozen=True)
class Work:
    """One task: its JSON, what must become of it, and the files that it delivers, by name.

    `cancel_after` is how many seconds after its creation it is canceled; then its files may be missing, never wrong.
    """

    body: Mapping[str, Any]
    kind: Kind
    files: Mapping[str, bytes] = field(default_factory=dict)
    cancel_after: float | None = None


def draw(seed: int, count: int, inputs: Path, outputs: Path, image: str = "not-used") -> list[Work]:
    """`count` tasks that run in `image`; what they read is written below `inputs`, and they deliver below `outputs`."""
    chance = random.Random(seed)
    kinds = [_copied, _copied, _copied, _failed, _listed, _forgot, _absent, _canceled]
    works = [_of(chance, number, inputs, outputs, kinds[number % len(kinds)]) for number in range(count)]
    for one in works:
        for executor in one.body["executors"]:
            executor["image"] = image
    return works


def _of(chance: random.Random, number: int, inputs: Path, outputs: Path, make: Any) -> Work:
    data = chance.randbytes(chance.randrange(_MOST_BYTES))
    source = inputs / f"{number}"
    source.write_bytes(data)
    work: Work = make(chance, f"{number}", data, source, outputs)
    return work


def _pause(chance: random.Random) -> str:
    return f"sleep {chance.uniform(0.0, _LONGEST_SECONDS):.3f}"


def _task(*scripts: str, **more: Any) -> dict[str, Any]:
    executors = [{"command": ["sh", "-ec", one]} for one in scripts]
    return {"executors": executors, **more}


def _input(source: Path) -> list[dict[str, str]]:
    return [{"url": f"file://{source}", "path": "/data/in"}]


def _output(outputs: Path, name: str, path: str = "/data/out") -> list[dict[str, str]]:
    return [{"url": f"file://{outputs}/{name}", "path": path}]


def _copied(chance: random.Random, name: str, data: bytes, source: Path, outputs: Path) -> Work:
    body = _task(
        f"cat /data/in >/between/half; {_pause(chance)}",
        f"{_pause(chance)}; cat /between/half /data/in >/data/out",
        inputs=_input(source),
        outputs=_output(outputs, name),
        volumes=["/between"],
    )
    return Work(body, COPIED, {name: data * 2})


def _failed(chance: random.Random, name: str, data: bytes, source: Path, outputs: Path) -> Work:
    """What a failed executor has written is delivered all the same."""
    script = f"{_pause(chance)}; cat /data/in >/data/out; exit 3"
    body = _task(script, "echo never", inputs=_input(source), outputs=_output(outputs, name))
    return Work(body, FAILED, {name: data})


def _listed(chance: random.Random, name: str, data: bytes, source: Path, outputs: Path) -> Work:
    parts = [data[at : at + 40_000] for at in range(0, len(data), 40_000)]
    script = f"mkdir -p /data/out/in; {_pause(chance)}; cp /data/in /data/out/whole; " + "; ".join(
        f"dd if=/data/in of=/data/out/in/{at} bs=40000 skip={at} count=1 2>/dev/null" for at in range(len(parts))
    )
    outputs_ = [{"url": f"file://{outputs}/{name}", "path": "/data/out", "type": "DIRECTORY"}]
    body = _task(script, inputs=_input(source), outputs=outputs_)
    files = {f"{name}/in/{at}": part for at, part in enumerate(parts)}
    return Work(body, LISTED, {f"{name}/whole": data, **files})


def _forgot(chance: random.Random, name: str, data: bytes, source: Path, outputs: Path) -> Work:
    body = _task(_pause(chance), inputs=_input(source), outputs=_output(outputs, name, "/data/none"))
    return Work(body, FORGOT)


def _absent(chance: random.Random, name: str, data: bytes, source: Path, outputs: Path) -> Work:
    return Work(_task("true", inputs=_input(source.with_name("nothing"))), ABSENT)


def _canceled(chance: random.Random, name: str, data: bytes, source: Path, outputs: Path) -> Work:
    body = _task(
        f"{_pause(chance)}; (sleep 60 &) ; {_pause(chance)}; cat /data/in >/data/out",
        inputs=_input(source),
        outputs=_output(outputs, name),
    )
    return Work(body, CANCELED, {name: data}, cancel_after=chance.uniform(0.0, 2 * _LONGEST_SECONDS))
