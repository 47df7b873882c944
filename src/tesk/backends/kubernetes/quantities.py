"""Amounts as Kubernetes writes them: `100m`, `1.5`, `512Mi`, `2G`."""

from __future__ import annotations

from decimal import Decimal

from lightkube.utils.quantity import parse_quantity

__all__ = ["amount"]


def amount(text: str | int | float) -> Decimal:
    """The number that a quantity stands for: cores, bytes or a count; 0 when it is none."""
    try:
        return parse_quantity(str(text)) or Decimal(0)
    except ValueError:
        return Decimal(0)
