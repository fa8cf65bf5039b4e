"""The file methods of `AsyncMultiConnection`: those of `multi_files.py`, awaited.

`async_multi_connection.py` inherits from it. `files.py` says what one host has to do; nothing here
touches a file.
"""

from __future__ import annotations

from collections.abc import Mapping

from .._api.sftp_calls import Preserve
from .._host_results import MultiResult
from .._policy.connection_options import Seconds
from .._policy.sftp import AnyPath
from .files import (
    LocalPath,
    TreeArguments,
    get_dir,
    put_dir,
    read,
    scp_read,
    scp_write,
    scp_write_data,
    write,
    write_data,
)
from .host_group import HostGroup
from .job import AsyncOnResult, Job
from .tail import AsyncMultiFileTailer, TailJob

__all__ = ["AsyncMultiFiles"]


class AsyncMultiFiles:
    """The file methods, which `AsyncMultiConnection` inherits."""

    _group: HostGroup

    async def _run(self, work: Job, on_result: AsyncOnResult | None = None) -> MultiResult:
        raise NotImplementedError

    async def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: LocalPath | None = None,
        *,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
        max_output: int | None = None,
    ) -> MultiResult:
        """Fetch a file from all hosts; see `MultiConnection.sftp_read`."""
        work = self._group.make_transfer(*read(remote_path, local_path, timeout, max_output))
        return await self._run(work, on_result)

    async def sftp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath | None = None,
        *,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Store a local file on all hosts; see `MultiConnection.sftp_write`."""
        work = self._group.make_transfer(*write(local_path, remote_path, timeout))
        return await self._run(work, on_result)

    async def sftp_write_data(
        self,
        data: str | bytes,
        remote_path: AnyPath,
        *,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Store `data` as a file on all hosts; see `MultiConnection.sftp_write_data`."""
        work = self._group.make_transfer(*write_data(data, remote_path, timeout))
        return await self._run(work, on_result)

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
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Store a directory on all hosts; see `MultiConnection.sftp_put_dir`."""
        how = TreeArguments(
            follow_symlinks, preserve_permissions, fail_fast, preserve_times, preserve
        )
        work = self._group.make_transfer(*put_dir(local_path, remote_path, how, timeout))
        return await self._run(work, on_result)

    async def sftp_get_dir(
        self,
        remote_path: AnyPath,
        local_path: LocalPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Fetch a directory from all hosts; see `MultiConnection.sftp_get_dir`."""
        how = TreeArguments(
            follow_symlinks, preserve_permissions, fail_fast, preserve_times, preserve
        )
        work = self._group.make_transfer(*get_dir(remote_path, local_path, how, timeout))
        return await self._run(work, on_result)

    async def scp_read(
        self,
        remote_path: AnyPath,
        local_path: LocalPath | None = None,
        *,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Fetch a file from all hosts with their scp; see `MultiConnection.scp_read`."""
        work = self._group.make_transfer(*scp_read(remote_path, local_path, timeout))
        return await self._run(work, on_result)

    async def scp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath,
        *,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Store a local file on all hosts with their scp; see `MultiConnection.scp_write`."""
        work = self._group.make_transfer(*scp_write(local_path, remote_path, timeout))
        return await self._run(work, on_result)

    async def scp_write_data(
        self,
        data: str | bytes,
        remote_path: AnyPath,
        *,
        timeout: Seconds | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Store `data` on all hosts with their scp; see `MultiConnection.scp_write_data`."""
        work = self._group.make_transfer(*scp_write_data(data, remote_path, timeout))
        return await self._run(work, on_result)

    def tail(self, remote_file: AnyPath) -> AsyncMultiFileTailer:
        """Follow what is added to a file of all hosts, in an async context manager."""
        return AsyncMultiFileTailer(self._run, TailJob.everywhere(self._group, remote_file))

    def tail_map(self, host_file_map: Mapping[str, AnyPath]) -> AsyncMultiFileTailer:
        """Follow a different file on each host that is in the mapping, as `tail`."""
        return AsyncMultiFileTailer(self._run, TailJob.mapped(self._group, host_file_map))
