"""What `tesk check` found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `message` says what is there, or what to do.

    `no` is something that is not there, or could not be looked at, without which tasks may run all the same.
    """

    what: str
    status: Literal["ok", "no", "fail"]
    message: str
