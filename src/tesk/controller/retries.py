"""How often a task is tried again because one of its executors failed: the backend parameter `executor_retries`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tesk.plan.model import Plan
from tesk.plan.site import EXECUTOR_RETRIES

__all__ = ["Retries"]


@dataclass(frozen=True, slots=True)
class Retries:
    """At most `most` attempts are followed by another when one of `executors` (numbers from 0) has failed."""

    most: int = 0
    executors: frozenset[int] = frozenset()

    @classmethod
    def of(cls, plan: Plan) -> Retries:
        """What the task of `plan` asks for; an executor with `ignore_error` fails no attempt."""
        most = int(plan.parameters.get(EXECUTOR_RETRIES, "0"))
        failing = (index for index, one in enumerate(plan.executors) if not one.ignore_error)
        return cls(most, frozenset(failing)) if most else cls()

    def failed(self, exit_codes: Sequence[int]) -> bool:
        """Whether the last of the executors that ended failed the attempt, and this counts."""
        return bool(exit_codes) and exit_codes[-1] != 0 and len(exit_codes) - 1 in self.executors

    def failed_in(self, log: bytes | None) -> bool:
        """The same of an attempt whose tesTaskLog is `log`."""
        return log is not None and self.failed([one["exit_code"] for one in json.loads(log)["logs"]])
