"""The schemas of TES 1.1.0 as dictionaries. A server may leave out any field, so no key is required."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "Executor",
    "ExecutorLog",
    "Input",
    "Output",
    "OutputFileLog",
    "Resources",
    "ServiceInfo",
    "Task",
    "TaskLog",
    "View",
]

View = Literal["MINIMAL", "BASIC", "FULL"]


class Executor(TypedDict, total=False):
    """`tesExecutor`."""

    image: str
    command: list[str]
    workdir: str
    stdin: str
    stdout: str
    stderr: str
    env: dict[str, str]
    ignore_error: bool


class Input(TypedDict, total=False):
    """`tesInput`."""

    name: str
    description: str
    url: str
    path: str
    type: str
    content: str
    streamable: bool


class Output(TypedDict, total=False):
    """`tesOutput`."""

    name: str
    description: str
    url: str
    path: str
    path_prefix: str
    type: str


class Resources(TypedDict, total=False):
    """`tesResources`; a gigabyte is 10^9 bytes."""

    cpu_cores: float
    preemptible: bool
    ram_gb: float
    disk_gb: float
    zones: list[str]
    backend_parameters: dict[str, str]
    backend_parameters_strict: bool


class ExecutorLog(TypedDict, total=False):
    """`tesExecutorLog`."""

    start_time: str
    end_time: str
    stdout: str
    stderr: str
    exit_code: int


class OutputFileLog(TypedDict, total=False):
    """`tesOutputFileLog`; `size_bytes` is an integer in a string."""

    url: str
    path: str
    size_bytes: str


class TaskLog(TypedDict, total=False):
    """`tesTaskLog`: one attempt."""

    logs: list[ExecutorLog]
    metadata: dict[str, str]
    start_time: str
    end_time: str
    outputs: list[OutputFileLog]
    system_logs: list[str]


class Task(TypedDict, total=False):
    """`tesTask`."""

    id: str
    state: str
    name: str
    description: str
    inputs: list[Input]
    outputs: list[Output]
    resources: Resources
    executors: list[Executor]
    volumes: list[str]
    tags: dict[str, str]
    logs: list[TaskLog]
    creation_time: str


class ServiceInfo(TypedDict, total=False):
    """`tesServiceInfo`: GA4GH service-info 1.0.0 with TES's own two fields."""

    id: str
    name: str
    type: dict[str, Any]
    description: str
    organization: dict[str, Any]
    contactUrl: str
    documentationUrl: str
    createdAt: str
    updatedAt: str
    environment: str
    version: str
    storage: list[str]
    tesResources_backend_parameters: list[str]
