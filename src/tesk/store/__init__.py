"""Tasks in SQL. Every query of TESK is here, and nobody else speaks SQL."""

from tesk.store.encode import encode_json, encode_log, encode_task, noted_log
from tesk.store.errors import KeyTaken, StoreError, Unstorable
from tesk.store.model import ActiveTask, Change, CreationKey, Event, NewTask, Page, Query, QueuedTask, TaskLogBytes
from tesk.store.store import Store

__all__ = [
    "ActiveTask",
    "Change",
    "CreationKey",
    "Event",
    "KeyTaken",
    "NewTask",
    "Page",
    "Query",
    "QueuedTask",
    "Store",
    "StoreError",
    "TaskLogBytes",
    "Unstorable",
    "encode_json",
    "encode_log",
    "encode_task",
    "noted_log",
]
