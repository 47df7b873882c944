"""URL to bytes and back: schemes, credentials, confinement, retries."""

from tesk.storage.base import Entry, Fetched, FileType, Source
from tesk.storage.confine import HostRoots, Owner, Tree, open_beneath
from tesk.storage.errors import StorageError, redact, shown
from tesk.storage.options import FtpOptions, S3Options, SharedRoot, StorageOptions, StorageSettings
from tesk.storage.store import Storage

__all__ = [
    "Entry",
    "Fetched",
    "FileType",
    "FtpOptions",
    "HostRoots",
    "Owner",
    "S3Options",
    "SharedRoot",
    "Source",
    "Storage",
    "StorageError",
    "StorageOptions",
    "StorageSettings",
    "Tree",
    "open_beneath",
    "redact",
    "shown",
]
