"""The `tesk` command. Nothing heavy is imported here or by the signatures of the commands: `--help` stays fast."""

from __future__ import annotations

__all__ = ["main", "program"]


def program() -> None:
    """`main` as a process of its own: see `_leave`."""
    try:
        main()
    except SystemExit as end:
        _leave(end.code)
        raise


def main() -> None:
    """Run the command that `sys.argv` asks for, and exit.

    Exit codes: 0 as wished, 1 a task or an operation failed, 2 wrong usage, 3 no server answers, 130
    interrupted.
    """
    import sys

    # The others begin nothing that a SIGTERM would leave behind; `serve` has its own way to end.
    ends_in_order = sys.argv[1:2] == ["run"]
    if ends_in_order:
        from tesk.cli import terminate

        terminate.end_at_once()
    try:
        _main()
    except KeyboardInterrupt:  # while we were still importing
        raise SystemExit(130) from None
    finally:
        if ends_in_order:
            terminate.ignore()


def _leave(code: object) -> None:
    """Exit here and now where obstore was used: a thread of its runtime that lets go of an upload's last object while
    Python ends aborts the process.
    """
    import os
    import sys

    if "obstore" not in sys.modules or not isinstance(code, int | None):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _main() -> None:
    import sys

    from tesk.cli import pod
    from tesk.cli.lean import importing

    if pod.is_ours(sys.argv[1:]):
        pod.main()

    # httpx would import its own command line, with rich and click: 0.1 s that each of our commands would pay
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    with importing():
        from tesk.cli.app import app
        from tesk.cli.faults import expected, tell

    try:
        app(prog_name="tesk")
    except expected() as fault:  # evaluated only when something was raised
        raise SystemExit(tell(fault)) from None
