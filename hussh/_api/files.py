"""The file methods of `Connection`: one-line methods over the operations of SFTP and scp.

`connection.py` inherits from it. `sftp_calls.py` and `_protocol` do the work; nothing here opens a
channel or reads a file.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from .._policy.connection_options import Milliseconds
from .._policy.sftp import AnyPath
from .._protocol import scp_files as scp
from .._protocol.core import Op
from .._protocol.sftp.session import SftpState
from .._results.transfer_result import TransferResult
from ..errors import Phase, SFTPError
from .arguments import check_memory_only, check_number, encode_contents
from .contents import convert_contents
from .plan import Plan
from .session_owner import SessionOwner
from .sftp import SFTP
from .sftp_calls import (
    COPY_BUFFER,
    Preserve,
    check_destination,
    check_longer,
    check_other_file,
    is_same_server,
    make_not_begun_result,
)
from .sftp_file import open_over
from .tail import FileTailer
from .transfer_bars import ShownProgress

__all__ = ["Files"]

T = TypeVar("T")


class Files(SessionOwner):
    """The file methods, which `Connection` inherits."""

    _plan: Plan[Any]
    _sftp: SftpState

    # -- scp

    @overload
    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: str = "utf-8",
        timeout: Milliseconds | None = None,
    ) -> str: ...
    @overload
    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: None,
        timeout: Milliseconds | None = None,
    ) -> bytes: ...
    @overload
    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        *,
        encoding: str | None = "utf-8",
        timeout: Milliseconds | None = None,
    ) -> Literal["Ok"]: ...
    @overload
    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        timeout: Milliseconds | None = None,
    ) -> str | bytes: ...
    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        timeout: Milliseconds | None = None,
    ) -> str | bytes:
        """Fetch a file with the server's scp.

        Args:
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.

        Returns:
            Its contents as str (bytes with ``encoding=None``). With `local_path` they go to
                that file, and the result is ``"Ok"``.

        Raises:
            SFTPError: the file is missing, a directory, or not permitted, or the server has no
                scp. It is an OSError, also FileNotFoundError and the like.
            NotText: the contents are not text in that encoding.
        """
        session = self._get_session()
        if local_path is not None:
            self._call_scp(scp.fetch_file(session.link, remote_path, local_path), timeout)
            return "Ok"
        data = self._call_scp(scp.fetch(session.link, remote_path), timeout)
        return convert_contents(data, encoding, remote_path, session, Phase.SCP)

    def scp_write(
        self, local_path: AnyPath, remote_path: AnyPath, *, timeout: Milliseconds | None = None
    ) -> None:
        """Store a local file, with its permission bits; raise as `scp_read`.

        A `remote_path` that ends in a slash is the directory for the file.
        """
        self._call_scp(scp.store_file(self._get_session().link, local_path, remote_path), timeout)

    def scp_write_data(
        self, data: str | bytes, remote_path: AnyPath, *, timeout: Milliseconds | None = None
    ) -> None:
        """Store `data` as a file (mode 644); raise as `scp_read`."""
        self._call_scp(
            scp.store(self._get_session().link, encode_contents(data), remote_path), timeout
        )

    def _call_scp(self, op: Op[T], timeout: Milliseconds | None) -> T:
        given = self._timeout if timeout is None else timeout
        seconds = check_number(given, "milliseconds") / 1000
        return self._get_session().call(op, seconds or None, Phase.SCP)

    # -- sftp

    @property
    def sftp(self) -> SFTP:
        """The files on the server, with the method names of `os`; see `SFTP`."""
        self._get_session()
        return SFTP(self)

    @overload
    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: str = "utf-8",
        progress: ShownProgress = None,
        max_output: int | None = None,
        timeout: Milliseconds | None = None,
    ) -> str: ...
    @overload
    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: None = None,
        *,
        encoding: None,
        progress: ShownProgress = None,
        max_output: int | None = None,
        timeout: Milliseconds | None = None,
    ) -> bytes: ...
    @overload
    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        *,
        encoding: str | None = "utf-8",
        progress: ShownProgress = None,
        resume: bool = False,
        timeout: Milliseconds | None = None,
    ) -> Literal["Ok"]: ...
    @overload
    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        timeout: Milliseconds | None = None,
        progress: ShownProgress = None,
        resume: bool = False,
        max_output: int | None = None,
    ) -> str | bytes: ...
    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
        resume: bool = False,
        max_output: int | None = None,
    ) -> str | bytes:
        """Fetch a file.

        Args:
            local_path: where to write it, see `SFTP.get`; with None its contents are returned.
            encoding: that of the contents; with None bytes are returned.
            progress: is called with the bytes so far and in all; see `SFTP.get`.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
            resume: keep what `local_path` has of the file, see `SFTP.get`.
            max_output: most bytes to return, without a local_path; None means no limit.

        Returns:
            ``"Ok"`` if `local_path` was given, otherwise the contents.

        Raises:
            SFTPError: see `SFTP`; also SFTPTimeout and SFTPUnavailable. It is an OSError.
            NotText: the contents are not text in that encoding.
            OutputLimitExceeded: the file has more than `max_output` bytes; its `.result` has
                the first ones as `stdout_bytes`.
        """
        check_memory_only(max_output, local_path)
        if local_path is None:
            if resume:
                raise ValueError("resume= needs a local_path")
            hop = self._get_session()
            data = self.sftp.get_bytes(
                remote_path, progress=progress, timeout=timeout, max_output=max_output
            )
            return convert_contents(data, encoding, remote_path, hop, Phase.SFTP)
        self.sftp.get(remote_path, local_path, progress=progress, timeout=timeout, resume=resume)
        return "Ok"

    def sftp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath | None = None,
        *,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
        resume: bool = False,
    ) -> None:
        """Store a local file, at the same path if `remote_path` is None; see `SFTP.put`."""
        target = local_path if remote_path is None else remote_path
        self.sftp.put(local_path, target, progress=progress, timeout=timeout, resume=resume)

    def sftp_write_data(
        self, data: str | bytes, remote_path: AnyPath, *, timeout: Milliseconds | None = None
    ) -> None:
        """Store `data` (text as UTF-8) as a file; raise as `sftp_read`."""
        self.sftp.put_bytes(encode_contents(data), remote_path, timeout=timeout)

    def sftp_put_dir(
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
        timeout: Milliseconds | None = None,
    ) -> TransferResult:
        """Store a directory; return source paths (transferred, failed); see `SFTP.put_dir`.

        If one of the two directories is not available, the source is the failed path; with
        `fail_fast` that raises.
        """
        try:
            return self.sftp.put_dir(
                local_path, remote_path, follow_symlinks, preserve_permissions, fail_fast,
                preserve_times=preserve_times, preserve=preserve, progress=progress,
                timeout=timeout,
            )  # fmt: skip
        except SFTPError as error:
            return make_not_begun_result(error, local_path, fail_fast)

    def sftp_get_dir(
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
        timeout: Milliseconds | None = None,
    ) -> TransferResult:
        """Fetch a directory; return source paths (transferred, failed); see `SFTP.get_dir`.

        If one of the two directories is not available, the source is the failed path; with
        `fail_fast` that raises.
        """
        try:
            return self.sftp.get_dir(
                remote_path, local_path, follow_symlinks, preserve_permissions, fail_fast,
                preserve_times=preserve_times, preserve=preserve, progress=progress,
                timeout=timeout,
            )  # fmt: skip
        except SFTPError as error:
            return make_not_begun_result(error, remote_path, fail_fast)

    def remote_copy(
        self, source_path: AnyPath, dest_conn: Files, dest_path: AnyPath | None = None
    ) -> None:
        """Copy a file from this server to another, with bounded memory.

        Args:
            dest_conn: a connection of the same class to the other server; it may have its own
                bastions.
            dest_path: the path there; None means the same path.

        Raises:
            SFTPError: one side failed; the error has its path. See `SFTP`.
            shutil.SameFileError: it would be copied onto itself. If hussh cannot know that
                (another name of the server, a network drive), the file keeps its contents.
            TypeError: dest_conn is not a Connection.
        """
        check_destination(dest_conn, Files, "a Connection")
        target = source_path if dest_path is None else dest_path
        if is_same_server(self._plan, dest_conn._plan) and dest_conn.sftp.exists(target):
            real = self.sftp.realpath(source_path), dest_conn.sftp.realpath(target)
            check_other_file(source_path, target, real)
        buffer = memoryview(bytearray(COPY_BUFFER))
        with self.sftp.open(source_path, "rb", buffering=0) as reader:
            with open_over(dest_conn.sftp._run, target) as writer:
                # It may be the source under another name, so nothing is cut before it was read.
                size = writer.stat().st_size
                while count := reader.readinto(buffer):  # type: ignore[attr-defined]
                    writer.write(buffer[:count])
                copied = writer.tell()
                if size is not None and size <= copied:
                    return
                try:
                    writer.truncate()
                    return
                except SFTPError as error:
                    # If the server refuses every change of attributes, opening still empties it.
                    check_longer(error, size, copied, reader.stat().st_size)  # type: ignore[attr-defined]
            reader.seek(0)
            with dest_conn.sftp.open(target, "wb", buffering=0) as writer:
                while count := reader.readinto(buffer):  # type: ignore[attr-defined]
                    writer.write(buffer[:count])

    def tail(self, remote_file: AnyPath) -> FileTailer:
        """Follow what is added to a file, in a context manager; see `FileTailer`."""
        return FileTailer(self, remote_file)
