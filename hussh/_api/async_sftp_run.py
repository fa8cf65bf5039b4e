"""`AsyncRunner`: runs the operations of the async file classes; see `sftp_run`.

`AsyncSFTP` and the objects that it returns use it. It knows nothing of files.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from .._connect.async_connect import AsyncSession
from .._policy.connection_options import Seconds
from .._protocol.core import Op
from .._protocol.sftp.session import SftpState
from ..errors import Phase
from .arguments import check_number
from .sftp_run import BaseRunner

__all__ = ["AsyncHasFiles", "AsyncRunner"]

T = TypeVar("T")


class AsyncHasFiles(Protocol):
    """The part of an `AsyncConnection` that the file classes use; its module imports theirs."""

    @property
    def _timeout(self) -> float: ...  # seconds

    def _get_session(self) -> AsyncSession: ...

    def _get_sftp_state(self) -> SftpState: ...


class AsyncRunner(BaseRunner[AsyncSession]):
    """Runs operations for tasks; time limits are in seconds."""

    def __init__(self, connection: AsyncHasFiles) -> None:
        super().__init__(connection._get_session(), connection._get_sftp_state())
        self.connection = connection

    async def __call__(self, op: Op[T], doing: str, timeout: Seconds | None = None) -> T:
        within, deadline = self._limit_op(op, doing, timeout)
        return await self.session.run(within, deadline, Phase.SFTP)

    def limit(self, timeout: Seconds | None) -> tuple[float, str]:
        given = self.connection._timeout if timeout is None else timeout
        seconds = check_number(given, "seconds")
        return seconds, f" after {seconds:g} s"
