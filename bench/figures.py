"""One measured figure and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Figure"]


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`, held against `goal`: at least or at most that. `goal` None is a figure to compare with."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    better: Literal["more", "less"] = "less"
    beside: str = ""
    """What it is to be compared with, measured in the same run."""

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.better == "more" else self.value <= self.goal

    def row(self) -> dict[str, Any]:
        """The figure as it stands in build/bench.json."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": self.goal,
            "holds": self.holds,
            "beside": self.beside,
        }

    def line(self, width: int) -> str:
        """The figure as a line of the table."""
        shown = f"{self.name:<{width}}  {self.value:>9.3f} {self.unit:<8}"
        if self.goal is None:
            verdict = "" if self.beside else "  (to compare with)"
        else:
            verdict = f"  {'≥' if self.better == 'more' else '≤'} {self.goal:g}  {'holds' if self.holds else 'MISSED'}"
        return f"{shown}{verdict}{f'  [{self.beside}]' if self.beside else ''}"
