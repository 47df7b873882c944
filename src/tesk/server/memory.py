"""How the C library gives memory back to the kernel."""

from __future__ import annotations

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT_BYTES = 16 * 2**20
_LARGE_BYTES = 4 * 2**20


def keep_freed_memory() -> None:
    """Keep up to 16 MiB of freed memory for the next request.

    A list of 256 tasks takes several buffers of 400 kB. By default glibc gives each back to the kernel, which then
    clears the same pages again for the next list: a fifth of its time. Another C library is left as it is.
    """
    import ctypes  # 5 ms that nobody shall wait for at the start

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
