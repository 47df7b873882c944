"""The site as the plan sees it: what an operator allows and what the machine or cluster can give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Capacity", "Site"]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most one task can get: cores, bytes of memory, bytes of scratch; None is not known or no limit."""

    cpu_cores: float | None = None
    ram_bytes: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """What `make_plan` needs of the site's configuration.

    `file_roots` are the absolute, normalised directories below which `file://` URLs and bare paths may lie;
    none by default. `schemes` are the other URL schemes that storage can read and write. `backend_parameters`
    are the names a task may use, in lower case. `capacity_of` is how sentences call what `capacity` measures.
    """

    file_roots: tuple[str, ...] = ()
    schemes: frozenset[str] = frozenset({"http", "https", "s3"})
    capacity: Capacity = Capacity()
    capacity_of: str = "this machine"
    missing_outputs: Literal["fail", "warn"] = "fail"
    unknown_fields: Literal["warn", "refuse"] = "warn"
    backend_parameters: frozenset[str] = frozenset({"missing_outputs"})
