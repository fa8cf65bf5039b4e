"""The order in which two streams arrived, and the two as one; pure functions.

`SSHResult`, `execute` and the shells' `MergedOutput` use it. An order is a sequence of pairs of
unsigned 32-bit numbers in the machine's own form, as `Channel.take_order` returns it: so many bytes
of stdout came, and then so many of stderr. Orders that follow one another are joined with ``+``.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import byteorder

__all__ = ["join_in_order", "make_pair", "runs_of"]

Bytes = bytes | bytearray
NOTHING = bytes(4)


def make_pair(stream: int, size: int) -> bytes:
    """Return the order of so many bytes of one stream."""
    number = size.to_bytes(4, byteorder)
    return NOTHING + number if stream else number + NOTHING


def runs_of(out: Bytes, err: Bytes, order: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield the parts of both streams, each with its stream (0 or 1), as they arrived.

    What the order does not tell comes last, stdout before stderr. What is missing of a stream, as
    with a limit, is left out.
    """
    left = [memoryview(out), memoryview(err)]
    for number, size in enumerate(memoryview(order).cast("I")):
        stream = number % 2
        part, left[stream] = left[stream][:size], left[stream][size:]
        if part:
            yield stream, part
    for stream, part in enumerate(left):
        if part:
            yield stream, part


def join_in_order(out: bytes, err: bytes, order: bytes) -> bytes:
    """Return both streams as one; without a copy if only one has anything."""
    if not err:
        return out
    if not out:
        return err
    return b"".join(part for _, part in runs_of(out, err, order))
