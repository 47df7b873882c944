"""The `tesk` command. Nothing heavy is imported here or by the signatures of the commands: `--help` stays fast."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that `sys.argv` asks for, and exit.

    Exit codes: 0 as wished, 1 a task or an operation failed, 2 wrong usage, 3 no server answers, 130
    interrupted.
    """
    import sys

    from tesk.cli.lean import importing

    # httpx would import its own command line, with rich and click: 0.1 s that each of our commands would pay
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    with importing():
        from tesk.cli.app import app
        from tesk.cli.faults import expected, tell

    try:
        app(prog_name="tesk")
    except expected() as fault:  # evaluated only when something was raised
        raise SystemExit(tell(fault)) from None
