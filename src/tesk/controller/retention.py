"""Records of tasks that ended long ago, removed as the site says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tesk.store import Store, StoreError

__all__ = ["Retention"]

log = logging.getLogger(__name__)

_BATCH = 500
"""Removed in one transaction, so that no write of a task waits for long."""
_PAUSE_SECONDS = 0.05
_SHORTEST, _LONGEST = 1.0, 3600.0


class Retention:
    """Keeps the records of ended tasks for `keep` after their end, and not much longer.

    Several servers on one database may each have one. A store that cannot be used now is tried again the next time.

    Args:
        clock: the time, aware of its zone.
    """

    def __init__(
        self, store: Store, keep: timedelta, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._keep = keep
        self._clock = clock

    async def run(self) -> None:
        """Remove what is over, again and again, until cancelled."""
        every = min(max(self._keep.total_seconds() / 24, _SHORTEST), _LONGEST)
        while True:
            try:
                if removed := await self.remove():
                    log.info("removed the records of %d tasks that ended more than %s ago", removed, self._keep)
            except StoreError as error:
                log.warning("old records are not removed yet: %s", error)
            await asyncio.sleep(every)

    async def remove(self) -> int:
        """Remove the record of each task that ended longer than `keep` ago; how many there were.

        Raises StoreError; what was removed by then stays removed.
        """
        ended_before, removed = self._clock() - self._keep, 0
        while found := await self._store.remove_ended_before(ended_before, _BATCH):
            removed += found
            if found < _BATCH:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return removed
