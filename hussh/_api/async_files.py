"""The file methods of `AsyncConnection`: one-line methods over the operations of SFTP and scp."""

from __future__ import annotations

import io
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from .._drive.loop_connect import AsyncSession
from .._policy.sftp import AnyPath, decode_path, encode_path
from .._protocol import scp as scp_ops
from .._protocol import sftp_ops as ops
from .._protocol.core import Op
from .._protocol.sftp_channel import LinkOpener, Sftp
from .._protocol.sftp_get_tree import get_tree
from .._protocol.sftp_local import FileSink, FileSource, MemorySink, MemorySource
from .._protocol.sftp_put_tree import put_tree
from .._protocol.sftp_resume import ResumedSink
from .._protocol.sftp_transfer import Way, download, upload
from .._protocol.sftp_tree import TreeOptions
from .._protocol.sftp_wire import Name
from .arguments import check_number, input_bytes
from .scp import decode, local_name, remote_name
from .sftp import Progress, _callback, _local

__all__ = ["AsyncFiles"]

T = TypeVar("T")
Lists = tuple[list[str], list[str]]
CopyTree = Callable[[Sftp, bytes, bytes, TreeOptions], Op[Lists]]


class AsyncFiles:
    """What `AsyncConnection` inherits; it has these two."""

    _timeout: float
    _sftp: tuple[AsyncSession, Sftp] | None = None

    def _live(self) -> AsyncSession:
        raise NotImplementedError

    # -- scp

    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
    ) -> str | bytes:
        """Fetch a file with the server's scp.

        Returns:
            Its contents as str (bytes with ``encoding=None``); with `local_path`
            they go to that file, and the result is ``"Ok"``.

        Raises:
            OSError: missing, a directory, not permitted, or no scp on the server.
            NotText: the contents are not text in that encoding.
        """
        link, remote = self._live().link, remote_name(remote_path)
        if local_path is not None:
            await self._scp(scp_ops.fetch(link, remote, local_name(local_path)))
            return "Ok"
        memory = io.BytesIO()
        await self._scp(scp_ops.receive(link, remote, memory.write))
        return decode(memory.getvalue(), encoding, remote)

    async def scp_write(self, local_path: AnyPath, remote_path: AnyPath) -> None:
        """Store a local file, with its permission bits; OSError as for `scp_read`."""
        local, remote = local_name(local_path), remote_name(remote_path)
        await self._scp(scp_ops.store(self._live().link, local, remote))

    async def scp_write_data(self, data: str | bytes, remote_path: AnyPath) -> None:
        """Store `data` as a file (mode 644); OSError as for `scp_read`."""
        raw, remote = input_bytes(data), remote_name(remote_path)
        source = io.BytesIO(raw).read
        await self._scp(scp_ops.send(self._live().link, remote, 0o644, len(raw), source))

    async def _scp(self, op: Op[T]) -> T:
        return await self._live().call(op, self._timeout or None, "scp")

    # -- sftp

    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        progress: Progress | None = None,
        timeout: float | None = None,
        resume: bool = False,
    ) -> str | bytes:
        """Fetch a file.

        Args:
            local_path: where to write it, see `SFTP.get`; None: return its contents.
            encoding: of the contents; None: return bytes.
            progress: called with the bytes so far and in all; see `SFTP.get`.
            timeout: **seconds**; None: the connection's; 0: no limit.
            resume: keep what `local_path` has of the file, see `SFTP.get`.

        Returns:
            ``"Ok"`` if `local_path` was given, else the contents.

        Raises:
            SFTPError (an OSError, also FileNotFoundError … where that fits), SFTPTimeout,
            SFTPUnavailable; NotText: the contents are not text in that encoding.
        """
        if local_path is None and resume:
            raise ValueError("resume= needs a local_path")
        to_file = ResumedSink if resume else FileSink
        sink = MemorySink() if local_path is None else to_file(_local(local_path))
        local = sink.path if isinstance(sink, FileSink) else None
        remote, (_, limit) = encode_path(remote_path), self._limit(timeout)
        way = Way("read" if local is None else "download", remote, local, limit)
        op = download(self._channel(), remote, sink, way, monotonic, _callback(progress))
        await self._file_op(op, "download", timeout)
        if isinstance(sink, FileSink):
            return "Ok"
        return decode(sink.data, encoding, repr(remote_path))

    async def sftp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath | None = None,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        resume: bool = False,
    ) -> None:
        """Store a local file, at the same path if `remote_path` is None; see `SFTP.put`."""
        path = _local(local_path)
        target = local_path if remote_path is None else remote_path
        await self._upload(lambda: FileSource.open(path), path, target, progress, timeout, resume)

    async def sftp_write_data(
        self, data: str | bytes, remote_path: AnyPath, *, timeout: float | None = None
    ) -> None:
        """Store `data` (text as UTF-8) as a file; raises as `sftp_read`."""
        raw = data.encode() if isinstance(data, str) else data
        await self._upload(lambda: MemorySource(raw), None, remote_path, None, timeout)

    async def sftp_list(self, path: AnyPath = ".", *, timeout: float | None = None) -> list[str]:
        """Names in a directory, in no order, without "." and ".."; raises as `sftp_read`."""
        op = ops.list_names(self._channel(), encode_path(path), _text)
        return await self._file_op(op, "list", timeout)

    async def sftp_put_dir(
        self,
        local_path: AnyPath,
        remote_path: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        timeout: float | None = None,
    ) -> tuple[list[str], list[str]]:
        """Store a directory; returns source paths (transferred, failed); see `SFTP.put_dir`."""
        return await self._copy_tree(
            put_tree, _local(local_path), encode_path(remote_path), "upload",
            (follow_symlinks, preserve_permissions, preserve_times, fail_fast), timeout,
        )  # fmt: skip

    async def sftp_get_dir(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        timeout: float | None = None,
    ) -> tuple[list[str], list[str]]:
        """Fetch a directory; returns source paths (transferred, failed); see `SFTP.get_dir`."""
        return await self._copy_tree(
            get_tree, encode_path(remote_path), _local(local_path), "download",
            (follow_symlinks, preserve_permissions, preserve_times, fail_fast), timeout,
        )  # fmt: skip

    def _channel(self) -> Sftp:
        """What this session keeps of SFTP; opens nothing yet."""
        session = self._live()
        if self._sftp is None or self._sftp[0] is not session:
            self._sftp = session, Sftp(LinkOpener(session.link))
        return self._sftp[1]

    def _limit(self, timeout: float | None) -> tuple[float, str]:
        """Seconds, and how an error words them."""
        seconds = self._timeout if timeout is None else check_number(timeout, "seconds")
        return seconds, f" after {seconds:g} s"

    async def _file_op(self, op: Op[T], doing: str, timeout: float | None) -> T:
        seconds, limit = self._limit(timeout)
        deadline = monotonic() + seconds if seconds else None
        return await self._live().run(ops.within(op, doing, limit), deadline, "sftp")

    async def _upload(
        self,
        source: Callable[[], FileSource | MemorySource],
        local: bytes | None,
        remote_path: AnyPath,
        progress: Progress | None,
        timeout: float | None,
        resume: bool = False,
    ) -> None:
        remote, (_, limit) = encode_path(remote_path), self._limit(timeout)
        way = Way("write" if local is None else "upload", local, remote, limit)
        op = upload(
            self._channel(), source, remote, way, monotonic, _callback(progress), resume=resume
        )
        await self._file_op(op, "upload", timeout)

    async def _copy_tree(
        self,
        copy: CopyTree,
        source: bytes,
        target: bytes,
        doing: str,
        options: tuple[bool, bool, bool, bool],
        timeout: float | None,
    ) -> Lists:
        asked = TreeOptions(*options, self._limit(timeout)[1], monotonic)
        return await self._file_op(copy(self._channel(), source, target, asked), doing, timeout)


def _text(name: Name) -> str:
    return decode_path(name.name)
