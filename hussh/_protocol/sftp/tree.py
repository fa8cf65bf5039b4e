"""What the transfers of whole directories share: small files many at once, large ones one by one.

`put_tree.py` and `get_tree.py` have the two directions. Directories get their modes and times last,
so that a read-only one can be filled. Nothing here touches a local file.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ..._policy.sftp import decode_path, get_errno, make_file_error
from ..._results.transfer_result import FailedPath, TransferResult
from ...errors import HusshError, SFTPError, printable
from ..core import Op
from .file_types import Inquiry
from .job_pool import Job, JobPool
from .ops import explain
from .request import Request
from .session import SftpSession, SftpState
from .transfer_context import Callback, Meter, TransferContext
from .warnings import Refusals, warn

__all__ = ["DEEPEST", "Tree", "TreeCallback", "TreeOptions"]

T = TypeVar("T")

TreeCallback = Callable[[int, "int | None", int, "int | None"], object]

#: Levels of directories; a server could pretend to have them without end.
DEEPEST = 256


class TreeOptions(NamedTuple):
    """What a user asks for, as in `Connection.sftp_put_dir`.

    Attributes:
        limit: the time limit as errors word it.
        strict: whether refused attributes are failures, see `Refusals`.
        progress: is called with bytes done and in all, and files done and in all; what is not
            known before everything has been listed is None.
    """

    follow_symlinks: bool
    preserve_permissions: bool
    preserve_times: bool
    fail_fast: bool
    limit: str
    clock: Callable[[], float]
    strict: bool = False
    progress: TreeCallback | None = None


@dataclass(eq=False, repr=False)
class Tree:
    """One transfer of a directory."""

    sftp: SftpState
    session: SftpSession
    options: TreeOptions
    doing: str
    transferred: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = JobPool(self.session)
        self.refusals = Refusals(self.options.strict)
        self.large: deque[Callable[[], Op[None]]] = deque()
        self.bytes_found = self.files_found = self.bytes_done = 0
        self._most_told = 0  # with a part of a file that is not in `bytes_done` yet
        self.searches = 0  # jobs that may find more
        tells = self.options.progress is not None
        self.meter = Meter(self._tell if tells else None, self.options.clock)
        if tells:
            self.pool.report = self._report

    # -- progress

    def search(self, start: Callable[[], Job], *, soon: bool = False) -> None:
        """Begin a job that may find more to copy."""
        self.searches += 1
        self.pool.add(lambda: self._search(start()), soon=soon)

    def _search(self, job: Job) -> Job:
        try:
            yield from job
        finally:
            self.searches -= 1

    def note_found(self, size: int | None) -> None:
        """Count a file or link that is to be copied."""
        self.files_found += 1
        self.bytes_found += size or 0

    def _report(self, final: bool = False) -> Op[None]:
        self.meter.total = None if self.searches else self.bytes_found
        if final:  # exact, although a file failed of which a part had been told
            self._most_told = 0
        return self.meter.report(self.bytes_done, final=final)

    def _tell(self, done: int, total: int | None) -> None:
        progress = self.options.progress
        assert progress is not None  # noqa: S101 (a caller's mistake)
        files = None if self.searches else self.files_found
        done = self._most_told = max(done, self._most_told)
        progress(done, total, len(self.transferred), files)

    def make_part_callback(self) -> Callback | None:
        """Return the callback for a file that is copied by itself."""
        if self.options.progress is None:
            return None
        before = self.bytes_done

        def tell(done: int, _: int | None) -> None:
            try:
                total = None if self.searches else max(self.bytes_found, before + done)
                self._tell(before + done, total)
            except BaseException as error:
                self.meter.raised = error
                raise

        return tell

    # -- results

    def note_done(self, path: bytes, size: int | None = 0) -> None:
        self.transferred.append(decode_path(path))
        self.bytes_done += size or 0

    def fail(self, path: bytes, target: bytes, error: OSError | int, server_text: str = "") -> None:
        """Note a failure; raise it if the user wants that."""
        if not isinstance(error, SFTPError):
            code = error if isinstance(error, int) else error.errno or 5
            if not isinstance(error, int) and not server_text and error.errno is not None:
                server_text = "on this machine"
            error = make_file_error(code, self.doing, path, target, server_text=server_text)
        if self.options.fail_fast:
            raise error
        self.failed.append(FailedPath.of(decode_path(path), error))

    def fail_alone(self, path: bytes, target: bytes, error: OSError) -> None:
        """Note the failure of one file, where that is handled; raise one that ends all work."""
        self.session.check()
        if isinstance(error, TimeoutError) or error is self.meter.raised:
            raise error
        self.fail(path, target, error)

    def refuse(self, path: bytes, target: bytes, request: Request, about: bytes) -> None:
        """Note a request that failed, as `fail`; a second look at the server tells why."""

        def look() -> Op[None]:
            error = yield from explain(
                self.session, request, self.doing, path, target, look_at=about
            )
            self.fail(path, target, error)

        if self.options.fail_fast:
            self.large.clear()
            self.pool.stopped = True
        self.large.append(look)

    def keeps_none(self, path: bytes, target: bytes, refused: OSError | Request | None) -> bool:
        """Note that attributes of a file were refused; return whether the file has failed so."""
        if refused is None:
            return False
        if isinstance(refused, OSError):
            code, why = refused.errno or errno.EIO, refused.strerror or str(refused)
        else:
            code = get_errno(refused.status)
            why = printable(refused.text) or os.strerror(code)
        if not self.refusals.strict:
            self.refusals.add(target, why)
            return False
        reason = f"the data is there, but permissions or times were refused: {why}"
        self.fail(path, target, make_file_error(code, self.doing, path, target, reason=reason))
        return True

    def run_inquiry(self, inquiry: Inquiry[T]) -> Generator[Any, Any, T]:
        """Run an inquiry about a path, in a job."""
        return self.pool.run_inquiry(inquiry)

    def run(self) -> Op[None]:
        """Run all jobs of the pool, and what they left for later."""
        while True:
            yield from self.pool.run()
            if not self.large:
                return
            while self.large:
                yield from self.large.popleft()()

    def make_result(self) -> TransferResult:
        return TransferResult(self.transferred, self.failed, self.refusals.list_warnings())

    def report_result(self) -> Op[TransferResult]:
        """Return the result, when all is done; log its warnings."""
        yield from self._report(final=True)
        result = self.make_result()
        for text in result.warnings:
            yield from warn(f"{self.doing}: {text}")
        return result

    def make_end_error(self, error: BaseException, context: TransferContext) -> BaseException:
        """Return an error that ends it all, in terms of the transfer, with what was done so far."""
        if error is self.meter.raised:
            return error
        error = context.explain_failure(error, None)
        if isinstance(error, HusshError):
            error.result = self.make_result()
        return error
