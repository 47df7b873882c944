"""The site as the plan sees it: what an operator allows and what the machine or cluster can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["EXECUTOR_RETRIES", "MAX_RUNTIME", "MISSING_OUTPUTS", "Capacity", "Parameter", "SharedStorage", "Site"]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most one task can get: cores, bytes of memory, bytes of scratch; None is not known or no limit."""

    cpu_cores: float | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a backend parameter may be set to.

    `values` are the words allowed (case does not count); None allows any `kind`: a word that Kubernetes takes as a
    label's value, or a whole number from `least` to `most`. `name` is how the plan calls the parameter, if not as the
    site does: in small letters.
    """

    kind: Literal["word", "number"] = "word"
    values: tuple[str, ...] | None = None
    least: int = 1
    most: int | None = None
    name: str = ""


MISSING_OUTPUTS = Parameter(values=("fail", "warn"))
"""`missing_outputs`, which every backend knows: what an output that is not there does to the task."""

EXECUTOR_RETRIES = "executor_retries"
"""The parameter, known to every backend, that says how many attempts may follow others in which an executor failed."""

MAX_RUNTIME = "max_runtime"
"""The parameter, known to every backend, that says how many seconds an executor may take."""


@dataclass(frozen=True, slots=True)
class SharedStorage:
    """Files that clients and tasks both reach.

    `client_path` is the absolute, normalised directory by which URLs name its root.
    """

    name: str
    client_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """What `make_plan` needs of the site's configuration.

    `file_roots` are the absolute, normalised directories below which `file://` URLs and bare paths may lie;
    none by default. `schemes` are the other URL schemes that storage can read and write. `backend_parameters`
    are those a task may use, by name in lower case. URLs below the `client_path` of a `shared` storage may be used like
    those below a root. `capacity_of` is how sentences call what `capacity` measures.
    """

    file_roots: tuple[str, ...] = ()
    schemes: frozenset[str] = frozenset({"ftp", "http", "https", "s3"})
    capacity: Capacity = Capacity()
    capacity_of: str = "this machine"
    missing_outputs: Literal["fail", "warn"] = "fail"
    unknown_fields: Literal["warn", "refuse"] = "warn"
    backend_parameters: Mapping[str, Parameter] = field(default_factory=lambda: {"missing_outputs": MISSING_OUTPUTS})
    shared: tuple[SharedStorage, ...] = ()
