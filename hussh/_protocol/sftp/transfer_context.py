"""What a transfer tells its user: how far it is, and what failed and what is kept of it.

`transfer`, `get_tree` and `put_tree` report by a `Meter`, and word errors by a `TransferContext`.
Nothing here sends a request of its own except to ask what a refused path is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn

from ..._policy.sftp import describe_kept, describe_unanswered, make_file_error
from ...errors import HusshError, SFTPError, SFTPTimeout
from ..core import DeadlineExceeded, Op, RunBlocking
from .ops import Handle, explain
from .request import Request

__all__ = ["Callback", "Clock", "Meter", "TransferContext", "raise_shown"]

Clock = Callable[[], float]
Callback = Callable[[int, "int | None"], object]


class Meter:
    """Calls `callback(done, total)`, at most every `every` seconds, and once at the end."""

    def __init__(self, callback: Callback | None, clock: Clock, every: float = 0.1) -> None:
        self._callback = callback
        self._clock = clock
        self._every = every
        self._last = clock()
        self.total: int | None = None
        self.raised: BaseException | None = None  # by the callback, so not to be reworded

    def report(self, done: int, *, final: bool = False) -> Op[None]:
        """Call the callback if it is time to; raise what it raises."""
        callback = self._callback
        if callback is None:
            return
        if not final and self._clock() - self._last < self._every:
            return
        total = self.total
        if final or (total is not None and total < done):
            total = done
        try:
            yield RunBlocking(lambda _: callback(done, total), in_caller=True)
        except BaseException as error:
            self.raised = error
            raise
        self._last = self._clock()


class TransferContext:
    """Source and destination of one transfer, as its errors name them."""

    def __init__(self, doing: str, source: bytes | None, target: bytes | None, limit: str) -> None:
        self.doing = doing
        paths = [path for path in (source, target) if path is not None]
        self.paths = (paths[0], paths[1] if len(paths) > 1 else None)
        self.limit = limit
        self.keeps = target is not None  # what arrives in memory is lost with the transfer

    def explain_refusal(self, handle: Handle, request: Request) -> Op[SFTPError]:
        """Return the error for a READ or WRITE that failed."""
        return explain(handle.session, request, self.doing, *self.paths, look_at=handle.path)

    def explain_failure(self, error: BaseException, done: int | None) -> BaseException:
        """Return an error in terms of this transfer; `done` bytes are where they belong."""
        path, path2 = self.paths
        shown_error: HusshError
        if isinstance(error, DeadlineExceeded):
            shown_error = make_file_error(
                errno.ETIMEDOUT, self.doing, path, path2,
                reason=f"timed out{self.limit}{describe_unanswered(error.unanswered)}",
                kind=SFTPTimeout,
            )  # fmt: skip
        elif isinstance(error, HusshError):
            shown_error = error
        elif isinstance(error, OSError) and error.errno is not None:
            shown_error = make_file_error(
                error.errno, self.doing, path, path2, server_text="on this machine"
            )
        else:
            return error
        if done is not None and getattr(shown_error, "transferred", None) is None:
            shown_error.text += describe_kept(done, kept=self.keeps)
            if self.keeps:
                shown_error.transferred = done  # type: ignore[attr-defined]
        return shown_error


def raise_shown(error: BaseException, shown_error: BaseException) -> NoReturn:
    """Raise an error that tells more than the one that is being handled, or that one itself.

    The caller must not keep `told` in a variable: its traceback holds the frames of both, and so
    all that the transfer had.
    """
    try:
        if shown_error is error:
            raise shown_error
        raise shown_error from (error if isinstance(error, OSError) else None)
    finally:
        del error, shown_error
