"""Text that Kubernetes hands on as it is."""

from __future__ import annotations

__all__ = ["escaped"]


def escaped(text: str) -> str:
    """`text` for `command`, `args` or an `env` value, where Kubernetes expands `$(NAME)` and makes `$$` to `$`.

    Every `$` is doubled: then none is left that could begin a reference, and each pair becomes one again.
    """
    return text.replace("$", "$$")
