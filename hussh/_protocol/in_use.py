"""Closes descriptors that one thread may still use while another one ends them.

`local_file.py` and `confined_dir.py`, the local ends of transfers, use it. A call that its driver
has abandoned may still be in the middle of a read or a write, in its own thread, when the clean-up
of its operation comes to close the file. Then that thread closes it when the call comes back. If it
were closed sooner, the number could belong to another file, which would get the rest. Nothing here
waits: items are added to lists and taken off them in single steps.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

__all__ = ["InUse"]


class InUse:
    """A context manager around each use; `end` says what to do after the last one."""

    def __init__(self) -> None:
        self._uses: list[None] = []
        self._last: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        self._uses.append(None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._uses.pop()
        self._end_unused()

    def end(self, last: Callable[[], None]) -> None:
        """Make a call now, or after the present uses; raise what it raises now."""
        self._last.append(last)
        self._end_unused()

    def _end_unused(self) -> None:
        # Each side looks after its own step, so that at least one of them sees both.
        if not self._uses and self._last:
            try:
                last = self._last.pop()
            except IndexError:  # the other side has it
                return
            last()
