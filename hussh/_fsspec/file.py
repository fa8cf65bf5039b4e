"""Open files of `HusshFileSystem`: buffered ones for threads, and streams for tasks.

`filesystem.py` makes them. Both work on an unbuffered `AsyncSFTPFile`, in the loop of the file
system. A file opens no connection and closes none.
"""

from __future__ import annotations

import os
from typing import Any

from fsspec.asyn import AbstractAsyncStreamedFile, sync
from fsspec.spec import AbstractBufferedFile

from .._api.async_sftp_file import AsyncSFTPFile

__all__ = ["HusshFile", "HusshStream", "read_range"]


async def read_range(remote: AsyncSFTPFile[bytes], start: int, end: int) -> bytes:
    """Return the bytes from `start` on, up to `end` or the end of the file."""
    await remote.seek(start)
    found = bytearray()
    while len(found) < end - start:
        part = await remote.read(end - start - len(found))
        if not part:
            break
        found += part
    return bytes(found)


class HusshFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is not typed
    """A file as `HusshFileSystem.open` returns it; one thread at a time may use it.

    Opening for writing makes or empties the file at once. With ``autocommit=False`` the data goes
    to another name beside it, which `commit` renames and `discard` removes.
    """

    def __init__(
        self,
        fs: Any,  # a HusshFileSystem, whose module imports this one
        path: str,
        mode: str = "rb",
        block_size: int | str | None = "default",
        autocommit: bool = True,
        cache_type: str = "readahead",
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._remote: AsyncSFTPFile[bytes] | None = None
        self._written_to = path
        if not autocommit and mode in ("wb", "xb"):
            folder = fs._parent(path)
            self._written_to = fs._join(folder, f".hussh-{os.urandom(8).hex()}")
        size = None
        start = 0
        if mode in ("rb", "ab", "wb", "xb"):  # else super().__init__ refuses it
            self._remote, size = sync(fs.loop, fs._open_remote, self._written_to, mode)
            start = size if mode == "ab" else 0
        super().__init__(
            fs, path, mode, block_size, autocommit, cache_type, cache_options,
            size=size if mode == "rb" else None, **kwargs,
        )  # fmt: skip
        self.loc = start

    # -- what AbstractBufferedFile asks for

    def _fetch_range(self, start: int, end: int) -> bytes:
        if self._remote is None:
            raise ValueError("I/O operation on closed file.")
        found: bytes = sync(self.fs.loop, read_range, self._remote, start, end)
        return found

    def _initiate_upload(self) -> None:
        """Do nothing: the file is open."""

    def _upload_chunk(self, final: bool = False) -> bool:
        data = self.buffer.getvalue()
        if data:
            sync(self.fs.loop, self._remote.write, data)  # type: ignore[union-attr]
        if final:
            self._close_remote()
            if self.autocommit and self._written_to != self.path:
                self.commit()
        return True

    def commit(self) -> None:
        """Give the data the name that was asked for."""
        if self._written_to != self.path:
            sync(self.fs.loop, self.fs._rename, self._written_to, self.path)
            self._written_to = self.path

    def discard(self) -> None:
        """Throw the data away."""
        self._close_remote()
        if self._written_to != self.path:
            self.fs.rm_file(self._written_to)

    def close(self) -> None:
        """Write what is left, and close it; errors of earlier writes are raised here at last."""
        try:
            super().close()
        finally:
            self._close_remote()

    def _close_remote(self) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            sync(self.fs.loop, remote.close)

    def __del__(self) -> None:
        """Let a file that nobody closed go, without waiting; what it buffers is lost."""
        self.closed = True


class HusshStream(AbstractAsyncStreamedFile):  # type: ignore[misc]  # fsspec is not typed
    """A file as `HusshFileSystem.open_async` returns it."""

    def __init__(
        self, fs: Any, path: str, mode: str, remote: AsyncSFTPFile[bytes], size: int,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self._remote: AsyncSFTPFile[bytes] | None = remote
        super().__init__(
            fs, path, mode, cache_type="none", size=size if mode == "rb" else None, **kwargs
        )
        self.loc = size if mode == "ab" else 0

    async def _fetch_range(self, start: int, end: int) -> bytes:
        if self._remote is None:
            raise ValueError("I/O operation on closed file.")
        return await read_range(self._remote, start, end)

    async def _upload_chunk(self, final: bool = False) -> bool:
        if self._remote is not None:
            data = self.buffer.getvalue()
            if data:
                await self._remote.write(data)
            if final:
                await self._close_remote()
        return True

    async def close(self) -> None:
        """Write what is left, and close it."""
        try:
            await super().close()
        finally:
            await self._close_remote()

    async def _close_remote(self) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            await remote.close()

    def __del__(self) -> None:
        """Let a file that nobody closed go, without waiting."""
        self.closed = True
