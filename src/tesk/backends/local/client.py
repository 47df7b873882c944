"""The client programs of engines: one command of podman or docker, with a bound on its time."""

from __future__ import annotations

import asyncio

__all__ = ["call", "last_words", "without_groups"]


async def call(*command: str, timeout: float, stdin: bytes | None = None) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of one command; -1 where it did not answer within `timeout` seconds.

    `stdin` is what it reads; nothing by default. It is killed with the one who waits for it.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C is for the server
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(stdin)
    except (TimeoutError, asyncio.CancelledError) as cause:
        process.kill()
        await process.wait()
        if isinstance(cause, asyncio.CancelledError):
            raise
        return -1, b"", f"Error: '{' '.join(command[:2])}' did not answer within {timeout:.0f} s".encode()
    return process.returncode or 0, out, err


def last_words(errors: bytes, prefix: str) -> str:
    """What a client says last of why it failed: of its lines, those that begin with `prefix` come before the others."""
    lines = [line for line in errors.decode("utf-8", "replace").splitlines() if line.strip()]
    told = [line.removeprefix(prefix) for line in lines if line.startswith(prefix)]
    return (told or lines or ["it said nothing"])[-1]


def without_groups(engine: str) -> dict[str, str]:
    """What executors are not held to by an `engine` that may use no control groups: `Engine.unheld`."""
    why = f"{engine} may use no control groups here"
    counted = f"is counted and not enforced: {why}"
    return {"cpu_cores": counted, "ram_gb": counted, "local.pids": f"is not enforced: {why}"}
