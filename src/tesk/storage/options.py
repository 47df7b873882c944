"""What storage is allowed and how it behaves: plain data, read from the environment only when the edges ask
for it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tesk.storage.retry import Tries

__all__ = ["FtpOptions", "S3Options", "SharedRoot", "StorageOptions", "StorageSettings"]


_LEAST_BLOCK, _MOST_BLOCK = 1 << 16, 1 << 20


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
class FtpOptions:
    """As whom to log in to FTP servers where a URL does not say: by the netrc file at `netrc`, if it is there and has
    the host, else as `username`.
    """

    netrc: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SharedRoot:
    """A storage that clients and tasks both reach: URLs name it by `client_path`, here it lies at `directory`."""

    name: str
    client_path: str
    directory: str


def _ftp_options(environ: Mapping[str, str]) -> FtpOptions:
    home = environ.get("HOME")
    return FtpOptions(
        netrc=environ.get("NETRC") or (f"{home}/.netrc" if home else None),
        username=environ.get("TESK_FTP_USERNAME") or None,
        password=environ.get("TESK_FTP_PASSWORD") or None,
    )


def _roots(shared: Sequence[SharedRoot]) -> dict[str, Path]:
    return {one.name: Path(one.directory) for one in shared}


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """One site's storage.

    `file_roots` are the absolute directories below which `file://` URLs and bare paths may lie, besides `shared`.
    `stall_timeout` is how many seconds may pass without a byte. A transfer is tried again `retries` times,
    first after about `retry_delay` seconds, then twice as long each time. `parallelism` is how many transfers
    of one task run at once, and `memory` how many bytes they hold together, more or less.
    """

    file_roots: tuple[str, ...] = ()
    s3: S3Options = S3Options()
    ftp: FtpOptions = FtpOptions()
    stall_timeout: float = 60.0
    connect_timeout: float = 15.0
    retries: int = 4
    retry_delay: float = 0.5
    parallelism: int = 8
    memory: int = 64 << 20
    shared: tuple[SharedRoot, ...] = ()

    @property
    def block(self) -> int:
        """How many bytes one transfer holds at a time."""
        return max(_LEAST_BLOCK, min(_MOST_BLOCK, self.memory // max(1, self.parallelism)))

    def tries(self) -> Tries:
        """For one transfer that begins."""
        return Tries(self.retries, self.retry_delay)

    @property
    def shared_roots(self) -> dict[str, Path]:
        """Where each shared storage lies here, by name."""
        return _roots(self.shared)

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, file_roots: Sequence[str] = ()
    ) -> StorageOptions:
        """Options with the S3 credentials that `AWS_*` variables and the files of `~/.aws` give, and the FTP logins of
        `NETRC` (a file's path; `~/.netrc` without it), `TESK_FTP_USERNAME` and `TESK_FTP_PASSWORD`.

        Reads the process's environment where `environ` is None. Raises ValueError, with a sentence, for a
        profile that is asked for but not there.
        """
        from tesk.storage.aws import s3_options

        found = os.environ if environ is None else environ
        return cls(file_roots=tuple(file_roots), s3=s3_options(found), ftp=_ftp_options(found))


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What an operator decides about storage. No secret is in it: it may travel to where files are moved.

    `attempts` is how often a transfer is tried in all. `s3_endpoint` and `s3_region` empty: what AWS's own settings
    say. The others are those of StorageOptions.
    """

    file_roots: tuple[str, ...] = ()
    stall_timeout: float = 60.0
    attempts: int = 3
    parallelism: int = 8
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_anonymous: bool = False
    shared: tuple[SharedRoot, ...] = ()

    @property
    def shared_roots(self) -> dict[str, Path]:
        """Where each shared storage lies here, by name."""
        return _roots(self.shared)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> StorageSettings:
        """Settings from plain data, by field. Raises TypeError for a name that is no field."""
        shared = tuple(SharedRoot(**one) for one in data.get("shared", ()))
        return cls(**{**data, "file_roots": tuple(data.get("file_roots", ())), "shared": shared})

    def options(self, environ: Mapping[str, str] | None = None) -> StorageOptions:
        """Storage as it works where `environ` holds the credentials; None is the process's own environment.

        Raises ValueError, with a sentence, for an AWS profile that is asked for but not there.
        """
        found = StorageOptions.from_environment(environ, file_roots=self.file_roots)
        keys = S3Options() if self.s3_anonymous else found.s3
        return dataclasses.replace(
            found,
            stall_timeout=self.stall_timeout,
            retries=self.attempts - 1,
            parallelism=self.parallelism,
            shared=self.shared,
            s3=dataclasses.replace(
                keys, endpoint=self.s3_endpoint or found.s3.endpoint, region=self.s3_region or found.s3.region
            ),
        )
