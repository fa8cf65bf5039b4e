"""The file methods of `AsyncConnection`: one-line methods over the operations of SFTP and scp.

`async_connection.py` inherits from it. `sftp_calls.py` and `_protocol` do the work; nothing here
opens a channel or reads a file.
"""

from __future__ import annotations

import os
from typing import Any, Literal, TypeVar, overload

from .._connect.async_connect import AsyncSession
from .._policy.connection_options import Seconds
from .._policy.sftp import AnyPath
from .._protocol import scp_files as scp
from .._protocol.core import Op
from .._protocol.sftp.session import SftpState
from .._results.transfer_result import TransferResult
from ..errors import Phase, SFTPError
from . import sftp_calls as calls
from .arguments import check_memory_only, check_number, encode_contents
from .async_session_owner import AsyncSessionOwner
from .async_sftp import AsyncSFTP
from .async_sftp_file import open_over
from .async_sftp_run import AsyncRunner
from .async_tail import AsyncFileTailer
from .contents import convert_contents
from .documented import details_of
from .files import Files
from .plan import Plan
from .sftp_calls import (
    COPY_BUFFER,
    Preserve,
    check_destination,
    check_longer,
    check_other_file,
    is_same_server,
    make_not_begun_result,
)
from .sftp_run import make_sftp_state
from .transfer_bars import ShownProgress

__all__ = ["AsyncFiles"]

T = TypeVar("T")


class AsyncFiles(AsyncSessionOwner):
    """The file methods, which `AsyncConnection` inherits."""

    @property
    def _plan(self) -> Plan[Any]:
        raise NotImplementedError

    _sftp: tuple[AsyncSession, SftpState] | None = None

    # -- scp

    @overload
    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: str = "utf-8",
        timeout: Seconds | None = None,
    ) -> str: ...
    @overload
    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: None,
        timeout: Seconds | None = None,
    ) -> bytes: ...
    @overload
    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        *,
        encoding: str | None = "utf-8",
        timeout: Seconds | None = None,
    ) -> Literal["Ok"]: ...
    @overload
    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        timeout: Seconds | None = None,
    ) -> str | bytes: ...
    @details_of(Files.scp_read)
    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        timeout: Seconds | None = None,
    ) -> str | bytes:
        """Fetch a file with the server's scp."""
        session = self._get_session()
        if local_path is not None:
            await self._call_scp(scp.fetch_file(session.link, remote_path, local_path), timeout)
            return "Ok"
        data = await self._call_scp(scp.fetch(session.link, remote_path), timeout)
        return convert_contents(data, encoding, remote_path, session, Phase.SCP)

    @details_of(Files.scp_write)
    async def scp_write(
        self, local_path: AnyPath, remote_path: AnyPath, *, timeout: Seconds | None = None
    ) -> None:
        """Store a local file, with its permission bits; raise as `scp_read`."""
        await self._call_scp(
            scp.store_file(self._get_session().link, local_path, remote_path), timeout
        )

    async def scp_write_data(
        self, data: str | bytes, remote_path: AnyPath, *, timeout: Seconds | None = None
    ) -> None:
        """Store `data` as a file (mode 644); raise as `scp_read`."""
        await self._call_scp(
            scp.store(self._get_session().link, encode_contents(data), remote_path), timeout
        )

    async def _call_scp(self, op: Op[T], timeout: Seconds | None) -> T:
        seconds = self._timeout if timeout is None else check_number(timeout, "seconds")
        return await self._get_session().call(op, seconds or None, Phase.SCP)

    # -- sftp

    @property
    def sftp(self) -> AsyncSFTP:
        """The files on the server, with the method names of `os`; see `AsyncSFTP`."""
        self._get_session()
        return AsyncSFTP(self)

    @overload
    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: str = "utf-8",
        progress: ShownProgress = None,
        max_output: int | None = None,
        timeout: Seconds | None = None,
    ) -> str: ...
    @overload
    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: None,
        progress: ShownProgress = None,
        max_output: int | None = None,
        timeout: Seconds | None = None,
    ) -> bytes: ...
    @overload
    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        *,
        encoding: str | None = "utf-8",
        progress: ShownProgress = None,
        resume: bool = False,
        timeout: Seconds | None = None,
    ) -> Literal["Ok"]: ...
    @overload
    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        timeout: Seconds | None = None,
        progress: ShownProgress = None,
        resume: bool = False,
        max_output: int | None = None,
    ) -> str | bytes: ...
    @details_of(Files.sftp_read)
    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
        resume: bool = False,
        max_output: int | None = None,
    ) -> str | bytes:
        """Fetch a file."""
        check_memory_only(max_output, local_path)
        if local_path is None:
            if resume:
                raise ValueError("resume= needs a local_path")
            hop = self._get_session()
            data = await self.sftp.get_bytes(
                remote_path, progress=progress, timeout=timeout, max_output=max_output
            )
            return convert_contents(data, encoding, remote_path, hop, Phase.SFTP)
        await self.sftp.get(
            remote_path, local_path, progress=progress, timeout=timeout, resume=resume
        )
        return "Ok"

    async def sftp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath | None = None,
        *,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
        resume: bool = False,
    ) -> None:
        """Store a local file, at the same path if `remote_path` is None; see `SFTP.put`."""
        target = local_path if remote_path is None else remote_path
        await self.sftp.put(local_path, target, progress=progress, timeout=timeout, resume=resume)

    async def sftp_write_data(
        self, data: str | bytes, remote_path: AnyPath, *, timeout: Seconds | None = None
    ) -> None:
        """Store `data` (text as UTF-8) as a file; raise as `sftp_read`."""
        await self.sftp.put_bytes(encode_contents(data), remote_path, timeout=timeout)

    async def sftp_list(self, path: AnyPath = ".", *, timeout: Seconds | None = None) -> list[str]:
        """Return the names in a directory, in no order, without "." and ".."; see `sftp_read`."""
        op = calls.listdir(self._get_sftp_state(), os.fsdecode(path))
        return await AsyncRunner(self)(op, "list", timeout)

    @details_of(Files.sftp_put_dir)
    async def sftp_put_dir(
        self,
        local_path: AnyPath,
        remote_path: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> TransferResult:
        """Store a directory; return source paths (transferred, failed); see `SFTP.put_dir`."""
        try:
            return await self.sftp.put_dir(
                local_path, remote_path, follow_symlinks, preserve_permissions, fail_fast,
                preserve_times=preserve_times, preserve=preserve, progress=progress,
                timeout=timeout,
            )  # fmt: skip
        except SFTPError as error:
            return make_not_begun_result(error, local_path, fail_fast)

    @details_of(Files.sftp_get_dir)
    async def sftp_get_dir(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> TransferResult:
        """Fetch a directory; return source paths (transferred, failed); see `SFTP.get_dir`."""
        try:
            return await self.sftp.get_dir(
                remote_path, local_path, follow_symlinks, preserve_permissions, fail_fast,
                preserve_times=preserve_times, preserve=preserve, progress=progress,
                timeout=timeout,
            )  # fmt: skip
        except SFTPError as error:
            return make_not_begun_result(error, remote_path, fail_fast)

    @details_of(Files.remote_copy)
    async def remote_copy(
        self, source_path: AnyPath, dest_conn: AsyncFiles, dest_path: AnyPath | None = None
    ) -> None:
        """Copy a file from this server to another, with bounded memory."""
        check_destination(dest_conn, AsyncFiles, "an AsyncConnection")
        target = source_path if dest_path is None else dest_path
        if is_same_server(self._plan, dest_conn._plan) and await dest_conn.sftp.exists(target):
            real = await self.sftp.realpath(source_path), await dest_conn.sftp.realpath(target)
            check_other_file(source_path, target, real)
        async with await self.sftp.open(source_path, "rb", buffering=0) as reader:
            async with await open_over(dest_conn.sftp._bound, target) as writer:
                # It may be the source under another name, so nothing is cut before it was read.
                size = (await writer.stat()).st_size
                while part := await reader.read(COPY_BUFFER):
                    await writer.write(part)
                copied = await writer.tell()
                if size is not None and size <= copied:
                    return
                try:
                    await writer.truncate()
                    return
                except SFTPError as error:
                    # If the server refuses every change of attributes, opening still empties it.
                    check_longer(error, size, copied, (await reader.stat()).st_size)
            await reader.seek(0)
            async with await dest_conn.sftp.open(target, "wb", buffering=0) as writer:
                while part := await reader.read(COPY_BUFFER):
                    await writer.write(part)

    def tail(self, remote_file: AnyPath) -> AsyncFileTailer:
        """Follow what is added to a file, in a context manager; see `AsyncFileTailer`."""
        return AsyncFileTailer(self, remote_file)

    def _get_sftp_state(self) -> SftpState:
        """Return what this session keeps of SFTP; opens nothing yet."""
        session = self._get_session()
        if self._sftp is None or self._sftp[0] is not session:
            self._sftp = session, make_sftp_state(session.link, self._plan.target)
        return self._sftp[1]
