"""What a pod of our own finds mounted: the attempt that the server handed out, scratch, and the launcher.

Nothing here needs the API library: a filer lives for a second, and would spend half of it on importing.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesk.backends.key import AttemptKey
from tesk.backends.kubernetes.names import Owner
from tesk.backends.limits import longest_run
from tesk.plan.model import Plan
from tesk.storage.options import StorageSettings

if TYPE_CHECKING:
    from tesk.backends.kubernetes.options import KubernetesOptions

__all__ = [
    "ABOUT",
    "ATTEMPT_DIRECTORY",
    "CONTROL_DIRECTORY",
    "HOST_FILES",
    "LAUNCHER_PROGRAM",
    "LAUNCHER_TREE",
    "NETRC_FILE",
    "OWNER_FILE",
    "PYTHON_PROGRAM",
    "REPORT_KEY_FILE",
    "SCRATCH_DIRECTORY",
    "SCRATCH_TREE",
    "SHARED_READY",
    "SITE",
    "TESK_PROGRAM",
    "Handout",
    "PodHandout",
    "ReportServer",
    "part_name",
    "read_attempt",
    "read_moves",
    "read_pod",
]

ATTEMPT_DIRECTORY = "/tesk/attempt"
"""Where taskmasters and filers find the plan and the site (`read_attempt`)."""

OWNER_FILE = "owner"
"""The file there that holds the owner's uid, which nobody knew when the plan was written."""

REPORT_KEY_FILE = "report-key"
"""The file there that holds what reports are signed with, where a server listens for them."""

NETRC_FILE = "netrc"
"""The file there, and the key of the site's Secret, that hold logins by host."""

SITE, ABOUT = "site.json", "attempt.json"
"""The files there with the site's settings, and with which attempt it is."""

SCRATCH_DIRECTORY = "/scratch"
"""Where filers find the whole scratch volume."""

CONTROL_DIRECTORY = "/tesk/control"
"""Where the taskmaster of a pod finds the control directories of its executors."""

HOST_FILES = ("hosts", "resolv.conf")
"""What says in `/etc` where hosts are, which a pod has once: each executor has copies, called `ex-NN.NAME` there."""

SCRATCH_TREE, LAUNCHER_TREE = "scratch", "launcher"
"""The two directories of the scratch volume: the files of the task, by container path; and the launcher."""

SHARED_READY = "shared-ready"
"""The file in the control directory that is there once executors may be shown shared storage."""

TESK_PROGRAM = "/opt/tesk/bin/tesk"
"""The entrypoint of our own image."""

PYTHON_PROGRAM = "/opt/tesk/bin/python"
"""The Python of our own image."""

LAUNCHER_PROGRAM = "/usr/local/bin/launcher"
"""The launcher in our own image; `--install DIR` copies it to `DIR/launcher`."""


@dataclass(frozen=True, slots=True)
class Handout:
    """What a taskmaster knows when it starts."""

    owner: Owner
    plan: Plan
    options: KubernetesOptions
    storage: StorageSettings


@dataclass(frozen=True, slots=True)
class ReportServer:
    """Where reports go; `greeting` is what shows that they are those of this attempt."""

    host: str
    port: int
    greeting: bytes


@dataclass(frozen=True, slots=True)
class PodHandout:
    """What the taskmaster of a pod knows. `max_runtime` is in seconds, of each executor."""

    plan: Plan
    storage: StorageSettings
    log_bytes: int
    max_runtime: int | None
    server: ReportServer | None = None


def part_name(number: int) -> str:
    """The file with part `number` (from 0) of the plan, compressed."""
    return f"plan.json.gz.{number:02d}"


def read_attempt(directory: Path) -> Handout:
    """What the server wrote (`handout.make_plan_config_maps`), from the directory where the pod finds it.

    Raises ValueError, with a sentence, when anything is missing or cannot be read.
    """
    from tesk.backends.kubernetes.options import KubernetesOptions

    with _told(directory):
        about, site = _json(directory / ABOUT), _json(directory / SITE)
        uid = (directory / OWNER_FILE).read_text().strip()
        return Handout(
            Owner(AttemptKey(about["task"], about["attempt"]), uid, about["parts"]),
            _plan(directory, about["parts"]),
            KubernetesOptions.from_json(json.dumps(site["kubernetes"])),
            StorageSettings.from_data(site["storage"]),
        )


def read_moves(directory: Path) -> tuple[Plan, StorageSettings]:
    """What a filer needs of `read_attempt`, and no more. Raises ValueError as that does."""
    with _told(directory):
        plan = _plan(directory, _json(directory / ABOUT)["parts"])
        return plan, StorageSettings.from_data(_json(directory / SITE)["storage"])


def read_pod(directory: Path) -> PodHandout:
    """What the taskmaster of a pod needs of `read_attempt`, and no more. Raises ValueError as that does."""
    with _told(directory):
        about, site = _json(directory / ABOUT), _json(directory / SITE)
        options, plan = site["kubernetes"], _plan(directory, about["parts"])
        return PodHandout(
            plan,
            StorageSettings.from_data(site["storage"]),
            options["log_bytes"],
            longest_run(plan, options["max_runtime"]),
            _server(directory, AttemptKey(about["task"], about["attempt"]), options.get("reports")),
        )


def _server(directory: Path, key: AttemptKey, place: dict[str, Any] | None) -> ReportServer | None:
    """Where reports go; None where no server listens, or none that shares a key with us."""
    file = directory / REPORT_KEY_FILE
    if place is None or not file.exists():
        return None
    from tesk.backends.kubernetes.pushing import greeting

    return ReportServer(place["host"], place["port"], greeting(key, file.read_bytes()))


def _json(file: Path) -> Any:
    return json.loads(file.read_bytes())


def _plan(directory: Path, parts: int) -> Plan:
    packed = b"".join((directory / part_name(number)).read_bytes() for number in range(parts))
    return Plan.from_json(gzip.decompress(packed))


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    """Faults of reading as ValueError."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{directory} holds no attempt: {error}") from error
    except (KeyError, TypeError, EOFError, zlib.error, json.JSONDecodeError) as error:
        raise ValueError(f"{directory} holds an attempt that cannot be read: {error!r}") from error
