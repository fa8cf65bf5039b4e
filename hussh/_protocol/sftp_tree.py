"""Whole directories to and from a server: small files many at once, large ones one by one.

What both directions share; `sftp_put_tree` and `sftp_get_tree` have the rest.
Directories get their modes and times last, so that a read-only one can be filled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .._policy.sftp import FailedPath, decode_path, file_error
from ..errors import HusshError, SFTPError
from .core import Op
from .sftp_channel import Sftp, SftpSession
from .sftp_crowd import Crowd
from .sftp_ops import explained
from .sftp_request import Request

__all__ = ["DEEPEST", "Tree", "TreeOptions", "join"]

#: Levels of directories; a server could pretend to have them without end.
DEEPEST = 256


@dataclass(frozen=True)
class TreeOptions:
    """What a user asks for, as in `Connection.sftp_put_dir`; `limit` words the time allowed."""

    follow_symlinks: bool
    preserve_permissions: bool
    preserve_times: bool
    fail_fast: bool
    limit: str
    clock: Callable[[], float]


@dataclass
class Tree:
    """One transfer of a directory."""

    sftp: Sftp
    session: SftpSession
    options: TreeOptions
    doing: str
    transferred: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.crowd = Crowd(self.session)
        self.large: deque[Callable[[], Op[None]]] = deque()

    def done(self, path: bytes) -> None:
        self.transferred.append(decode_path(path))

    def fail(self, path: bytes, target: bytes, error: OSError | int, said: str = "") -> None:
        """Note a failure; raises it if the user wants that."""
        if not isinstance(error, SFTPError):
            code = error if isinstance(error, int) else error.errno or 5
            if not isinstance(error, int) and not said and error.errno is not None:
                said = "on this machine"
            error = file_error(code, self.doing, path, target, said=said)
        if self.options.fail_fast:
            raise error
        self.failed.append(FailedPath.of(path, error))

    def refuse(self, path: bytes, target: bytes, request: Request, about: bytes) -> None:
        """`fail` for a request that failed; a second look at the server tells why."""

        def look() -> Op[None]:
            error = yield from explained(
                self.session, request, self.doing, path, target, look_at=about
            )
            self.fail(path, target, error)

        if self.options.fail_fast:
            self.large.clear()
            self.crowd.stopped = True
        self.large.append(look)

    def run(self) -> Op[None]:
        """All jobs of the crowd, and what they left for later."""
        while True:
            yield from self.crowd.run()
            if not self.large:
                return
            while self.large:
                yield from self.large.popleft()()

    def result(self) -> tuple[list[str], list[str]]:
        return self.transferred, self.failed

    def ended(self, error: BaseException) -> BaseException:
        """An error that ends it all, with what was done so far."""
        if isinstance(error, HusshError):
            error.result = self.result()  # type: ignore[attr-defined]
        return error


def join(folder: bytes, name: bytes) -> bytes:
    """A path at the server."""
    return name if not folder else folder + name if folder.endswith(b"/") else folder + b"/" + name
