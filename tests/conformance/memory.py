"""How much memory this process uses; for tests that bound it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

__all__ = ["allocated", "peak_kib", "reset_peak"]


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _MallInfo


def allocated() -> tuple[int, int]:
    """Return bytes that C code holds (malloc's own account) and blocks that Python holds."""
    info = _libc.mallinfo2()
    return info.uordblks + info.hblkhd, sys.getallocatedblocks()


def reset_peak() -> None:
    """Let `peak_kib` count from the present resident size."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_kib() -> tuple[int, int]:
    """Return the resident size now and the largest since `reset_peak`, in KiB."""
    sizes = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            sizes[name] = int(value.split()[0])
    return sizes["VmRSS"], sizes["VmHWM"]
