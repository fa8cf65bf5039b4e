"""`AsyncFileTailer`: what `FileTailer` is for threads, for tasks.

`AsyncConnection.tail` in `async_files.py` makes one. `_protocol/sftp/tail.py` does the work. A
finalizer never waits: the file is closed at the next use of the connection.
"""

from __future__ import annotations

from .._policy.sftp import AnyPath
from .arguments import check_position
from .async_sftp_run import AsyncHasFiles, AsyncRunner
from .closing import AsyncClosing
from .documented import details_of
from .tail import FileTailer, Tailer

__all__ = ["AsyncFileTailer"]


class AsyncFileTailer(Tailer[AsyncRunner], AsyncClosing):
    """Follows a file from the moment its ``async with`` block begins; see `AsyncConnection.tail`.

    As `FileTailer` otherwise.
    """

    def __init__(
        self, conn: AsyncHasFiles, remote_file: AnyPath, init_pos: int | None = None
    ) -> None:
        super().__init__(remote_file, init_pos)
        self._conn = conn

    async def seek_end(self) -> int:
        """Skip to the present end of the file; return that offset."""
        run, tail = self._get_tail()
        return await run(tail.seek_end(), "follow")

    @details_of(FileTailer.read)
    async def read(self, from_pos: int | None = None) -> str:
        """Return what was added since the last read, or everything from an offset on; maybe ""."""
        run, tail = self._get_tail()
        return await run(tail.read(check_position(from_pos)), "follow")

    async def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._close()

    aclose = close

    async def __aenter__(self) -> AsyncFileTailer:
        run, tail = self._get_tail()
        await run(tail.begin(), "follow")
        return self

    async def _leave(self) -> None:
        run, tail = self._get_tail()
        self.contents: str | None = await run(tail.end(), "follow")

    def _make_runner(self) -> AsyncRunner:
        return AsyncRunner(self._conn)
