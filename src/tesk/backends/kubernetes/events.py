"""The events of a namespace, by the attempt that each is about."""

from __future__ import annotations

from lightkube.models.core_v1 import Event

from tesk.backends.key import AttemptKey
from tesk.backends.kubernetes.names import key_in
from tesk.backends.kubernetes.watch import Change

__all__ = ["Events"]


class Events:
    """What watches tell of events. Thousands of pods that wait have one each: nobody should look through them all."""

    def __init__(self) -> None:
        self._found: dict[AttemptKey, dict[str, Event]] = {}

    def note(self, change: Change, event: Event) -> AttemptKey | None:
        """Take in a change; the attempt that the event is about, if it is about one."""
        key = key_in(event.involvedObject.name or "")
        name = event.metadata.name
        if key is None or name is None:
            return None
        if change != "deleted":
            self._found.setdefault(key, {})[name] = event
        elif (left := self._found.get(key)) is not None:
            left.pop(name, None)
            if not left:
                del self._found[key]
        return key

    def of(self, key: AttemptKey) -> list[Event]:
        """The events about the attempt's objects."""
        return list(self._found.get(key, {}).values())
