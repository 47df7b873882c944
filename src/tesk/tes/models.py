"""The schemas of TES 1.1.0 as pydantic models.

Three deliberate leniencies, each because a real client needs it:

- `null` is accepted wherever a field is optional (Cromwell, pydantic-tes), and a null value of a tag or
  backend parameter (Cromwell); TESK stores neither.
- fields that the specification does not name are accepted, and taken out by `take_unknown`, so that newer
  clients work.
- `cpu_cores` may be a fraction (the specification's 1.2 draft); a whole number stays an integer.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tesk.tes.states import State

__all__ = [
    "TesCancelTaskResponse",
    "TesCreateTaskResponse",
    "TesExecutor",
    "TesExecutorLog",
    "TesFileType",
    "TesInput",
    "TesListTasksResponse",
    "TesOutput",
    "TesOutputFileLog",
    "TesResources",
    "TesServiceInfo",
    "TesServiceOrganization",
    "TesServiceType",
    "TesTask",
    "TesTaskLog",
    "take_unknown",
]

INT32_MAX = 2**31 - 1

MOST_ITEMS, MOST_EXECUTORS, MOST_BAD_VALUES = 100_000, 10_000, 100
"""A fault takes 600 bytes while a body is read; without bounds, 16 MiB of `1,` would take gigabytes."""


class TesFileType(StrEnum):
    """`tesFileType`: optional from the client, filled in by the server once it is known."""

    FILE = "FILE"
    DIRECTORY = "DIRECTORY"


def _drop_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: one for key, one in value.items() if one is not None}
    for key in [key for key, one in kept.items() if not isinstance(one, str)][MOST_BAD_VALUES:]:
        del kept[key]
    return kept


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Strings = Annotated[list[str], Field(fail_fast=True)]
StringMap = Annotated[dict[str, str], BeforeValidator(_drop_nulls)]
Cores = Annotated[int | float, BeforeValidator(_whole), Field(le=INT32_MAX)]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class TesExecutor(_Schema):
    """`tesExecutor`: one command in one image; `command` is the whole argv."""

    image: str
    command: Strings
    workdir: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    env: StringMap | None = None
    ignore_error: bool | None = None


class TesExecutorLog(_Schema):
    """`tesExecutorLog`; `exit_code` is required, so an executor that still runs has no entry."""

    start_time: str | None = None
    end_time: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: Annotated[int, Field(ge=-INT32_MAX - 1, le=INT32_MAX)]


class TesInput(_Schema):
    """`tesInput`: a file or directory to be there before the first executor; `content` wins over `url`."""

    name: str | None = None
    description: str | None = None
    url: str | None = None
    path: str
    type: TesFileType | None = None
    content: str | None = None
    streamable: bool | None = None


class TesOutput(_Schema):
    """`tesOutput`: a file, a directory or a pattern to be delivered to `url` at the end."""

    name: str | None = None
    description: str | None = None
    url: str
    path: str
    path_prefix: str | None = None
    type: TesFileType | None = None


class TesOutputFileLog(_Schema):
    """`tesOutputFileLog`: one delivered file; `size_bytes` is an int64 in a string."""

    url: str
    path: str
    size_bytes: str


class TesResources(_Schema):
    """`tesResources`; a gigabyte is 10^9 bytes."""

    cpu_cores: Cores | None = None
    preemptible: bool | None = None
    ram_gb: float | None = None
    disk_gb: float | None = None
    zones: Strings | None = None
    backend_parameters: StringMap | None = None
    backend_parameters_strict: bool | None = None


class TesTaskLog(_Schema):
    """`tesTaskLog`: one attempt."""

    logs: list[TesExecutorLog]
    metadata: StringMap | None = None
    start_time: str | None = None
    end_time: str | None = None
    outputs: list[TesOutputFileLog]
    system_logs: Strings | None = None


class TesTask(_Schema):
    """`tesTask`. `id`, `state`, `logs` and `creation_time` are the server's."""

    id: str | None = None
    state: State | None = None
    name: str | None = None
    description: str | None = None
    inputs: Annotated[list[TesInput], Field(max_length=MOST_ITEMS)] | None = None
    outputs: Annotated[list[TesOutput], Field(max_length=MOST_ITEMS)] | None = None
    resources: TesResources | None = None
    executors: Annotated[list[TesExecutor], Field(max_length=MOST_EXECUTORS)]
    volumes: Strings | None = None
    tags: StringMap | None = None
    logs: Annotated[list[TesTaskLog], Field(max_length=MOST_ITEMS)] | None = None
    creation_time: str | None = None


class TesCreateTaskResponse(_Schema):
    """`tesCreateTaskResponse`: exactly `{"id": ...}`, since any other key breaks py-tes."""

    id: str


class TesCancelTaskResponse(_Schema):
    """`tesCancelTaskResponse`: `{}`."""


class TesListTasksResponse(_Schema):
    """`tesListTasksResponse`; no `next_page_token` means the end."""

    tasks: list[TesTask]
    next_page_token: str | None = None


class TesServiceType(_Schema):
    """`tesServiceType`, with what GA4GH service-info 1.0.0 requires of a type."""

    group: str = "org.ga4gh"
    artifact: str = "tes"
    version: str = "1.1.0"


class TesServiceOrganization(_Schema):
    """GA4GH service-info 1.0.0 `organization`."""

    name: str
    url: str


class TesServiceInfo(_Schema):
    """`tesServiceInfo`: GA4GH service-info 1.0.0 `Service` with TES's `storage` and parameter names."""

    id: str
    name: str
    type: TesServiceType
    description: str | None = None
    organization: TesServiceOrganization
    contactUrl: str | None = None  # noqa: N815 - GA4GH's spelling
    documentationUrl: str | None = None  # noqa: N815
    createdAt: str | None = None  # noqa: N815
    updatedAt: str | None = None  # noqa: N815
    environment: str | None = None
    version: str
    storage: list[str] | None = None
    tesResources_backend_parameters: list[str] | None = None  # noqa: N815


def take_unknown(model: BaseModel, at: str = "") -> Iterator[str]:
    """Take every field that no specification names out of `model`; yields each path (`executors[0].gpu`)."""
    extra = model.__pydantic_extra__
    if extra:
        yield from (f"{at}{name}" for name in extra)
        extra.clear()
    for name in _HOLDING.get(type(model), ()):
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from take_unknown(value, f"{at}{name}.")
        else:
            for index, one in enumerate(value or ()):
                if one.__pydantic_extra__ or type(one) in _HOLDING:
                    yield from take_unknown(one, f"{at}{name}[{index}].")


_HOLDING: dict[type[BaseModel], tuple[str, ...]] = {
    TesTask: ("inputs", "outputs", "resources", "executors", "logs"),
    TesTaskLog: ("logs", "outputs"),
    TesListTasksResponse: ("tasks",),
    TesServiceInfo: ("type", "organization"),
}
"""The fields that hold other schemas."""
