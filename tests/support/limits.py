"""Limits of this process, for a while; for tests."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def spare_descriptors(count: int) -> Iterator[None]:
    """Within the block only so many more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while held[-1] < _highest() - 1:
            held.append(os.dup(held[0]))  # no holes below
        resource.setrlimit(resource.RLIMIT_NOFILE, (_highest() + 1 + count, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def _highest() -> int:
    # The descriptor of the listing itself is gone by then.
    names = [int(name) for name in os.listdir("/proc/self/fd")]
    return max(name for name in names if os.path.exists(f"/proc/self/fd/{name}"))
