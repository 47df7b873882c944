"""Every key of `tesk.yaml`, with its default and the line that docs/configuration.md prints for it."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tesk.backends.kubernetes.options import KubernetesOptions
from tesk.config.errors import ConfigError
from tesk.config.fields import Positive, Root, Seconds, Section
from tesk.config.kubernetes import KubernetesConfig
from tesk.config.shared import SharedConfig, TransferConfig, shared_faults
from tesk.plan.site import EXECUTOR_RETRIES, MAX_RUNTIME, MISSING_OUTPUTS, Capacity, Parameter, SharedStorage, Site
from tesk.storage import SharedRoot, StorageOptions, StorageSettings

__all__ = [
    "Config",
    "ControllerConfig",
    "KubernetesConfig",
    "LocalConfig",
    "S3Config",
    "ServerConfig",
    "ServiceConfig",
    "StorageConfig",
    "StoreConfig",
    "TasksConfig",
]


def _directory(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("give an absolute path")
    return Path(os.path.normpath(value))


def _origin(value: str) -> str:
    """A web page's origin as browsers send it (RFC 6454, 6.2): they compare it letter by letter."""
    parts = urlsplit(value)
    if value != "*" and not re.fullmatch(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", value):
        raise ValueError("give origins such as https://portal.example.org (in small letters, nothing behind), or '*'")
    if (parts.scheme, parts.port) in (("http", 80), ("https", 443)):
        raise ValueError("leave out the usual port: browsers do")
    return value


def _host(value: str) -> str:
    """A name or address as it stands in a URL, without a port; letters count as small ones."""
    small = value.lower()
    if value != "*" and not re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", small):
        raise ValueError("give names such as tes.example.org or [2001:db8::1], without a port, or '*'")
    return small


def _url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/]+\S*|mailto:[^\s@]+@[^\s@]+", value):
        raise ValueError("give a URL with http:// or https:// (or mailto: and an address)")
    return value


def _time(value: str) -> str:
    """RFC 3339: a date and a time with its offset."""
    if value:
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            parsed = datetime.min
        if parsed.tzinfo is None or "T" not in value:
            raise ValueError("give a time such as 2026-05-01T09:00:00Z, in quotes")
    return value


Directory = Annotated[Path, Field(strict=False), AfterValidator(_directory)]
Origin = Annotated[str, AfterValidator(_origin)]
Host = Annotated[str, AfterValidator(_host)]
Url = Annotated[str, AfterValidator(_url)]
Time = Annotated[str, AfterValidator(_time)]


class ServerConfig(Section):
    """Where and how the server listens."""

    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    allow_unauthenticated: bool = Field(
        False,
        description="Serve on an address that other machines can reach although nobody has to prove who they"
        " are: whoever reaches it can run commands here.",
    )
    access_log: bool = Field(True, description="Write one JSON line for each request.")
    max_body_bytes: int = Field(
        16 * 2**20,
        ge=1024,
        description="The largest request body that is read, in bytes, also after gzip; a larger one is 413.",
    )
    cors_origins: Annotated[tuple[Origin, ...], Field(strict=False)] = Field(
        (),
        description="Origins whose web pages may use the API from a browser, such as https://portal.example.org; '*'"
        " is every page that anybody opens.",
    )
    allowed_hosts: Annotated[tuple[Host, ...], Field(strict=False)] = Field(
        (),
        description="Names in URLs that this server answers to, besides localhost and server.host; '*' is any. Empty:"
        " any, but none besides those two when only this machine can reach it. (A proxy in front of it often passes on"
        " its own name.)",
    )


class ServiceConfig(Section):
    """What `GET /service-info` says (GA4GH service-info 1.0.0); changes take effect while the server runs."""

    id: str = Field("local.tesk", min_length=1, description="The service's id, in reverse domain notation.")
    name: str = Field("TESK", min_length=1, description="The service's name for people.")
    description: str = Field("", description="What this service is for.")
    organization_name: str = Field("Not configured", min_length=1, description="Who runs this service.")
    organization_url: Url = Field(
        "http://localhost", min_length=1, description="The web page of who runs this service."
    )
    contact_url: Url = Field("", description="Where users get help: a URL, or mailto: and an address.")
    documentation_url: Url = Field("", description="Where this service is described.")
    created_at: Time = Field("", description="When this service was first there (RFC 3339).")
    environment: str = Field("", description="What kind of service this is: prod, test, dev, …")


class StoreConfig(Section):
    """Where tasks are remembered."""

    url: str = Field(
        "",
        description="postgresql://user:password@host/database, sqlite:///file, or empty: tesk.db in the state"
        " directory.",
    )


class S3Config(Section):
    """S3 beyond what the AWS environment variables and files already say."""

    endpoint_url: str = Field("", description="The address of an S3 service that is not Amazon's.")
    region: str = Field("", description="The region; empty takes what AWS's own settings say.")
    anonymous: bool = Field(False, description="Read public buckets without credentials.")


class StorageConfig(Section):
    """Where tasks may read and write, and how bytes are moved."""

    file_roots: Annotated[tuple[Root, ...], Field(strict=False)] = Field(
        (),
        description="Directories below which tasks may name files (file:// or a bare path); none by default.",
    )
    shared: Annotated[tuple[SharedConfig, ...], Field(strict=False)] = Field(
        (),
        description="Storage that clients and tasks both reach, mounted instead of copied: a list of {name, pvc,"
        " directory, client_path, task_path, read_only} (shared-storage.md).",
    )
    stall_timeout: Positive = Field(
        60.0, description="Seconds without a single byte after which a transfer counts as broken."
    )
    attempts: int = Field(3, ge=1, le=100, description="How often a transfer is tried when trying again can help.")
    parallel: int = Field(8, ge=1, le=1024, description="Transfers of one task at the same time (storage.md).")
    s3: S3Config = Field(default_factory=S3Config, description="S3.")


class TasksConfig(Section):
    """How tasks are treated."""

    max_attempts: int = Field(
        3, ge=1, le=100, description="Attempts at a task whose work is lost through no fault of its own."
    )
    max_executor_retries: int = Field(
        10,
        ge=0,
        le=10,
        description="How many new attempts a task may ask for (backend parameter executor_retries) when an executor"
        " fails; 0: none.",
    )
    missing_outputs: Literal["fail", "warn"] = Field(
        "fail",
        description="What an output that is not there does to its task: fail it, or warn in system_logs.",
    )
    unknown_fields: Literal["warn", "refuse"] = Field(
        "warn",
        description="What a field that TES 1.1 does not know does: a warning in system_logs, or a refusal.",
    )
    show_canceling: bool = Field(
        True,
        description="Show tasks on their way to CANCELED as CANCELING; false shows them as RUNNING, for clients older"
        " than TES 1.1 (Snakemake, Toil), which fail on a state that they do not know.",
    )
    show_preempted: Literal["never", "preemptible", "always"] = Field(
        "preemptible",
        description="Which tasks end PREEMPTED when the system took the machine of their last attempt: those that"
        " asked for preemptible resources, all or none; the others end SYSTEM_ERROR. Cromwell, Nextflow, cwl-tes,"
        " Toil and Snakemake wait for ever for a task that is PREEMPTED.",
    )
    log_bytes: int = Field(
        65536,
        ge=256,
        description="Bytes of an executor's stdout, and of its stderr, that are kept: head and tail.",
    )
    keep_records: Positive | None = Field(
        None,
        le=36500,
        description="Days for which the record of an ended task stays; null keeps every record for ever.",
    )


class LocalConfig(Section):
    """The local backend: this machine."""

    engine: Literal["auto", "podman", "docker", "apptainer", "sandbox"] = Field(
        "auto",
        description="What runs executors: podman, docker, apptainer, sandbox, or auto: the first of these that works.",
    )
    network: bool = Field(
        True, description="Whether executors reach a network; false leaves them a loopback interface of their own."
    )
    cpu_cores: Positive | None = Field(
        None, description="Cores that tasks may use together; null takes all of the machine."
    )
    ram_gb: Positive | None = Field(
        None, description="Memory that tasks may use together, in 10^9 bytes; null takes all of the machine."
    )
    disk_gb: Positive | None = Field(
        None,
        description="Scratch that tasks may use together, in 10^9 bytes; null takes what is free at start.",
    )
    pids: Annotated[int, Field(ge=16)] | None = Field(
        4096, description="Processes and threads that one executor may have at a time; null: any number."
    )
    scratch_gb: Positive | None = Field(
        None,
        description="Scratch, in 10^9 bytes, that a task may fill that does not say disk_gb; null: all that tasks may"
        " use together.",
    )
    max_runtime: Seconds | None = Field(None, description="Seconds that one executor may take; null: no limit.")
    lasting: bool = Field(
        True,
        description="Let executors go on while no server runs, for the next one on the same state"
        " directory to take over; false: they end with the server.",
    )


class ControllerConfig(Section):
    """The loop between the store and the backend."""

    full_pass_seconds: Positive = Field(
        30.0,
        description="Seconds between two full passes over all active tasks; changes are seen at once anyway.",
    )


class Config(Section):
    """The whole configuration. `state_directory` has no default here: `load` knows the platform's."""

    state_directory: Directory = Field(
        description="Where the server keeps what must survive a restart."
        " Default: systemd's $STATE_DIRECTORY; /var/lib/tesk for root; else $XDG_STATE_HOME/tesk or"
        " ~/.local/state/tesk (macOS: ~/Library/Application Support/tesk)."
    )
    backend: Literal["local", "kubernetes"] = Field("local", description="Where attempts run.")
    server: ServerConfig = ServerConfig()
    service: ServiceConfig = ServiceConfig()
    store: StoreConfig = StoreConfig()
    storage: StorageConfig = StorageConfig()
    tasks: TasksConfig = TasksConfig()
    local: LocalConfig = LocalConfig()
    kubernetes: KubernetesConfig = KubernetesConfig()
    controller: ControllerConfig = ControllerConfig()
    transfer: TransferConfig = TransferConfig()

    @property
    def store_place(self) -> str | Path:
        """Where the store is: the configured URL, or the file `tesk.db` in the state directory."""
        return self.store.url or self.state_directory / "tesk.db"

    def site(self, capacity: Capacity) -> Site:
        """The site as `make_plan` sees it; `capacity` is what the backend found."""
        on_kubernetes = self.backend == "kubernetes"
        parameters = {"missing_outputs": MISSING_OUTPUTS}
        if self.tasks.max_executor_retries:
            parameters[EXECUTOR_RETRIES] = Parameter("number", least=0, most=self.tasks.max_executor_retries)
        if on_kubernetes:
            parameters |= self.kubernetes.parameters()
        longest = self.kubernetes.max_runtime if on_kubernetes else self.local.max_runtime
        parameters[MAX_RUNTIME] = Parameter("number", most=longest)
        return Site(
            file_roots=self.storage.file_roots,
            capacity=capacity,
            capacity_of="the largest node" if on_kubernetes else "this machine",
            missing_outputs=self.tasks.missing_outputs,
            unknown_fields=self.tasks.unknown_fields,
            backend_parameters=parameters,
            shared=tuple(SharedStorage(one.name, one.client_path, one.read_only) for one in self.shared.values()),
        )

    @property
    def shared(self) -> dict[str, SharedConfig]:
        """The storages shared with clients, each by the words that name its place in the configuration."""
        found = {f"storage.shared[{number}]": one for number, one in enumerate(self.storage.shared)}
        transfer = self.transfer.storage
        return found if transfer is None else {**found, "transfer": transfer}

    def faults(self) -> dict[str, str]:
        """What does not go together, although each value is right by itself: sentences, by the key to change."""
        on_kubernetes = self.backend == "kubernetes"
        found = self.kubernetes.faults(self.storage.file_roots, list(self.shared.values())) if on_kubernetes else {}
        for key, sentence in shared_faults(self.shared, on_kubernetes=on_kubernetes):
            found.setdefault("transfer.pvc_name" if key == "transfer" else "storage.shared", f"({key}) {sentence}")
        return found

    def kubernetes_options(self) -> KubernetesOptions:
        """What the Kubernetes backend is to know."""
        return self.kubernetes.options(self.tasks.log_bytes, list(self.shared.values()))

    @property
    def storage_settings(self) -> StorageSettings:
        """What is decided here about storage; no credentials."""
        storage = self.storage
        return StorageSettings(
            file_roots=storage.file_roots,
            stall_timeout=storage.stall_timeout,
            attempts=storage.attempts,
            parallelism=storage.parallel,
            s3_endpoint=storage.s3.endpoint_url,
            s3_region=storage.s3.region,
            s3_anonymous=storage.s3.anonymous,
            shared=tuple(SharedRoot(one.name, one.client_path, self._directory(one)) for one in self.shared.values()),
        )

    def _directory(self, one: SharedConfig) -> str:
        """Where those who move files find a shared storage: pods have it mounted as URLs name it."""
        return one.client_path if self.backend == "kubernetes" or one.directory is None else one.directory

    def storage_options(self, environ: Mapping[str, str]) -> StorageOptions:
        """How storage works here; the S3 credentials are those of AWS's own variables and files.

        Raises ConfigError for an AWS profile that is asked for but not there.
        """
        try:
            return self.storage_settings.options(environ)
        except ValueError as error:
            raise ConfigError([str(error)]) from error
