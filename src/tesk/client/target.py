"""Which server a client speaks with, and as whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DEFAULT_TIMEOUT", "Target"]

DEFAULT_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server's address and what to show it; secrets are not part of `repr`.

    `timeout` is in seconds and counts for each request. `ca` is a file of certificates that count besides the
    system's; `verify=False` trusts any certificate. `source` says where all this is from and `warnings` what its
    owner should know, both as text for people.
    """

    url: str = field(repr=False)  # may hold a password
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = DEFAULT_TIMEOUT
    ca: str | None = None
    verify: bool = True
    source: str = ""
    warnings: tuple[str, ...] = ()
