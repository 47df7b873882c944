"""What storage is allowed and how it behaves: plain data, read from the environment only when the edges ask
for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["S3Options", "StorageOptions"]


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach S3. Without keys and without `ambient`, requests are anonymous.

    `ambient` leaves credentials to what the platform gives this process (a web identity token, a container's
    credentials endpoint). `endpoint` None is AWS.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ambient: bool = False


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """One site's storage.

    `file_roots` are the absolute directories below which `file://` URLs and bare paths may lie.
    `stall_timeout` is how many seconds may pass without a byte. A transfer is tried again `retries` times,
    first after about `retry_delay` seconds, then twice as long each time. `parallelism` is how many transfers
    of one task run at once.
    """

    file_roots: tuple[str, ...] = ()
    s3: S3Options = S3Options()
    stall_timeout: float = 60.0
    connect_timeout: float = 15.0
    retries: int = 4
    retry_delay: float = 0.5
    parallelism: int = 8

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, file_roots: Sequence[str] = ()
    ) -> StorageOptions:
        """Options with the S3 credentials that `AWS_*` variables and the files of `~/.aws` give.

        Reads the process's environment where `environ` is None. Raises ValueError, with a sentence, for a
        profile that is asked for but not there.
        """
        from tesk.storage.aws import s3_options

        return cls(file_roots=tuple(file_roots), s3=s3_options(os.environ if environ is None else environ))
