"""What the transfers of whole directories share: small files many at once, large ones one by one.

`sftp.put_tree` and `sftp.get_tree` have the two directions. Directories get their modes and times
last, so that a read-only one can be filled.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..._policy.sftp import FailedPath, decode_path, errno_of, file_error
from ..._policy.transfer_result import TransferResult
from ...errors import HusshError, SFTPError, printable
from ..core import Op
from .file_types import Inquiry
from .job_pool import JobPool
from .ops import explained
from .request import Request
from .session import SftpSession, SftpState
from .warnings import Refusals, warn

__all__ = ["DEEPEST", "Tree", "TreeOptions"]

T = TypeVar("T")

#: Levels of directories; a server could pretend to have them without end.
DEEPEST = 256


@dataclass(frozen=True)
class TreeOptions:
    """What a user asks for, as in `Connection.sftp_put_dir`.

    Attributes:
        limit: the time limit as errors word it.
        strict: whether refused attributes are failures, see `Refusals`.
    """

    follow_symlinks: bool
    preserve_permissions: bool
    preserve_times: bool
    fail_fast: bool
    limit: str
    clock: Callable[[], float]
    strict: bool = False


@dataclass
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

    def done(self, path: bytes) -> None:
        self.transferred.append(decode_path(path))

    def fail(self, path: bytes, target: bytes, error: OSError | int, server_text: str = "") -> None:
        """Note a failure; raise it if the user wants that."""
        if not isinstance(error, SFTPError):
            code = error if isinstance(error, int) else error.errno or 5
            if not isinstance(error, int) and not server_text and error.errno is not None:
                server_text = "on this machine"
            error = file_error(code, self.doing, path, target, server_text=server_text)
        if self.options.fail_fast:
            raise error
        self.failed.append(FailedPath.of(path, error))

    def fail_alone(self, path: bytes, target: bytes, error: OSError) -> None:
        """Note the failure of one file, where that is handled; raise one that ends all work."""
        self.session.check()
        if isinstance(error, TimeoutError):
            raise error
        self.fail(path, target, error)

    def refuse(self, path: bytes, target: bytes, request: Request, about: bytes) -> None:
        """Note a request that failed, as `fail`; a second look at the server tells why."""

        def look() -> Op[None]:
            error = yield from explained(
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
            code = errno_of(refused.status)
            why = printable(refused.text) or os.strerror(code)
        if not self.refusals.strict:
            self.refusals.add(target, why)
            return False
        reason = f"the data is there, but permissions or times were refused: {why}"
        self.fail(path, target, file_error(code, self.doing, path, target, reason=reason))
        return True

    def inquired(self, inquiry: Inquiry[T]) -> Generator[Any, Any, T]:
        """Run an inquiry about a path, in a job."""
        return self.pool.inquired(inquiry)

    def run(self) -> Op[None]:
        """Run all jobs of the pool, and what they left for later."""
        while True:
            yield from self.pool.run()
            if not self.large:
                return
            while self.large:
                yield from self.large.popleft()()

    def result(self) -> TransferResult:
        return TransferResult(self.transferred, self.failed, self.refusals.warnings())

    def finished(self) -> Op[TransferResult]:
        """Return the result, when all is done; log its warnings."""
        result = self.result()
        for text in result.warnings:
            yield from warn(f"{self.doing}: {text}")
        return result

    def ended(self, error: BaseException) -> BaseException:
        """Return an error that ends it all, with what was done so far."""
        if isinstance(error, HusshError):
            error.result = self.result()  # type: ignore[attr-defined]
        return error
