"""`MergedOutput`: what a shell has written and nobody has taken yet, in the order of arrival.

Shells keep one. Their streams can be had as one, as `expect` needs them, and apart. Nothing here
waits.
"""

from __future__ import annotations

from collections import deque

from .._results.arrival import make_pair, runs_of

__all__ = ["MergedOutput"]


class MergedOutput:
    """Bytes of two streams.

    Attributes:
        data: all bytes, in the order of arrival; to be read only.
    """

    __slots__ = ("data", "_runs")

    def __init__(self) -> None:
        self.data = bytearray()
        self._runs: deque[tuple[int, int]] = deque()  # a stream, and so many bytes of it

    def __len__(self) -> int:
        return len(self.data)

    def add(self, out: bytearray, err: bytearray, order: bytes) -> None:
        """Append what has come, with its order as `arrival` describes it."""
        for stream, part in runs_of(out, err, order):
            self.data += part
            size = len(part)
            if self._runs and self._runs[-1][0] == stream:
                size += self._runs.pop()[1]
            self._runs.append((stream, size))

    def take(self, size: int) -> bytes:
        """Return so many bytes of the beginning, and forget them."""
        taken = bytes(self.data[:size])
        del self.data[:size]
        left = len(taken)
        while left:
            stream, length = self._runs.popleft()
            if length > left:
                self._runs.appendleft((stream, length - left))
            left -= min(left, length)
        return taken

    def split_apart(self) -> tuple[bytes, bytes, bytes]:
        """Return stdout, stderr and their order."""
        streams = bytearray(), bytearray()
        if len(self._runs) == 1:  # without a copy more than needed
            stream, size = self._runs[0]
            whole = bytes(self.data)
            return (b"", whole, make_pair(1, size)) if stream else (whole, b"", make_pair(0, size))
        parts, at = [], 0
        for stream, size in self._runs:
            streams[stream].extend(self.data[at : at + size])
            parts.append(make_pair(stream, size))
            at += size
        return bytes(streams[0]), bytes(streams[1]), b"".join(parts)

    def clear(self) -> None:
        """Forget everything."""
        self.data.clear()
        self._runs.clear()
