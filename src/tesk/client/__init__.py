"""A client for any GA4GH TES server: `Client` and `AsyncClient`, with plain dictionaries in and out."""

from tesk.client.aio import AsyncClient
from tesk.client.errors import ClientError, NotSentError, ProfileError, ServerUnreachableError, WaitTimeoutError
from tesk.client.operations import Page
from tesk.client.profiles import find_target
from tesk.client.sync import Client
from tesk.client.target import Target
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
    "NotSentError",
    "Output",
    "OutputFileLog",
    "Page",
    "ProfileError",
    "Resources",
    "ServerUnreachableError",
    "ServiceInfo",
    "Target",
    "Task",
    "TaskLog",
    "View",
    "WaitTimeoutError",
    "find_target",
]
