"""`GrowingBytes`: collects any number of bytes in steps that are all short.

`execute.py`, `process.py` and `local_file.py` keep what arrives in it: a command's output, a file
that is read into memory. It knows nothing of channels and never waits.

A step of an event loop must not copy tens of MB. `io.BytesIO` grows by `realloc` and gives its own
bytes away. But glibc copies a block that lies in its heap, and any block of less than 32 MiB may
lie there: that took 45 ms for an output of 43 MB. A block that is larger when it is made always
gets its own pages, and the kernel moves those without a copy. So what becomes large goes to such a
block early. Its pages cost nothing before they are written to.
"""

from __future__ import annotations

import io

__all__ = ["GrowingBytes"]

#: From this size on, in bytes, the block gets its own pages; so much is copied once.
LARGE = 4 << 20
#: The size of that block when it is made, above glibc's DEFAULT_MMAP_THRESHOLD_MAX.
RESERVE = 33 << 20


class GrowingBytes:
    """Bytes in memory, written at any offset; gaps are zeros.

    Attributes:
        size: the end of what was written, in bytes.
    """

    __slots__ = ("size", "_file", "_is_large")

    def __init__(self) -> None:
        self.size = 0
        self._file = io.BytesIO()
        self._is_large = False

    def append(self, part: bytes | bytearray | memoryview) -> None:
        """Write at the end."""
        self.write_at(self.size, part)

    def write_at(self, offset: int, part: bytes | bytearray | memoryview) -> None:
        """Write at an offset, over what is there.

        Raises:
            MemoryError: there is no room; what was collected is lost.
        """
        if not part:
            return
        end = offset + len(part)
        try:
            if end > LARGE and not self._is_large:
                self._enlarge()
            self._file.seek(offset)
            self._file.write(part)
        except MemoryError:
            self._file = io.BytesIO()  # a file that could not grow counts as closed
            self.size = 0
            self._is_large = False
            raise
        self.size = max(self.size, end)

    def take(self, size: int | None = None) -> bytes:
        """Return all that was written, or the first `size` bytes of it, without a copy."""
        self._file.truncate(self.size if size is None else min(size, self.size))
        return self._file.getvalue()

    def copy(self) -> bytes:
        """Return a copy of all that was written."""
        return bytes(self._file.getbuffer()[: self.size])

    def _enlarge(self) -> None:
        self._is_large = True
        try:
            large = io.BytesIO(bytes(RESERVE))
        except MemoryError:
            return  # so the block grows in the slower way, for as long as it can
        large.write(self._file.getbuffer())
        self._file = large
