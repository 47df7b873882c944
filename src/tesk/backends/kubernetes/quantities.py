"""Amounts as Kubernetes writes them: `100m`, `1.5`, `512Mi`, `2G`."""

from __future__ import annotations

from decimal import Decimal

from lightkube.utils.quantity import parse_quantity

__all__ = ["amount", "number"]


def amount(text: str | int | float) -> Decimal:
    """The number that a quantity stands for: cores, bytes or a count; 0 when it is none."""
    try:
        return number(str(text))
    except ValueError:
        return Decimal(0)


def number(text: str) -> Decimal:
    """The same, of what must be one. Raises ValueError."""
    return parse_quantity(text) or Decimal(0)
