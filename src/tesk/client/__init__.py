"""A client for any GA4GH TES server: `Client` and `AsyncClient`, with plain dictionaries in and out."""

from tesk.client.aio import AsyncClient
from tesk.client.errors import ClientError, ServerUnreachableError, WaitTimeoutError
from tesk.client.operations import Page
from tesk.client.sync import Client
from tesk.client.types import (
    Executor,
    ExecutorLog,
    Input,
    Output,
    OutputFileLog,
    Resources,
    ServiceInfo,
    Task,
    TaskLog,
    View,
)

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Executor",
    "ExecutorLog",
    "Input",
    "Output",
    "OutputFileLog",
    "Page",
    "Resources",
    "ServerUnreachableError",
    "ServiceInfo",
    "Task",
    "TaskLog",
    "View",
    "WaitTimeoutError",
]
