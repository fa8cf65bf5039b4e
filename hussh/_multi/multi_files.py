"""The file methods of `MultiConnection`: a file or directory, the same work on many hosts.

`multi_connection.py` inherits from it. `files.py` says what one host has to do, and the `HostGroup`
does it; nothing here touches a file.
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
from .job import Job, OnResult
from .tail import MultiFileTailer, TailJob

__all__ = ["MultiFiles"]


class MultiFiles:
    """The file methods, which `MultiConnection` inherits."""

    _group: HostGroup

    def _run(self, work: Job, on_result: OnResult | None = None) -> MultiResult:
        raise NotImplementedError

    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: LocalPath | None = None,
        *,
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
        max_output: int | None = None,
    ) -> MultiResult:
        """Fetch a file from all hosts.

        Args:
            local_path: where to write it: a path, which is the same for all hosts, or a
                function from host to path. With None the contents are the result's `stdout`,
                and exactly its `stdout_bytes`.
            timeout: **seconds** for one host; None means the connection's limit, 0 no limit.
            on_result: see `execute`.
            max_output: most bytes of one host, without a local_path. A host whose file is
                longer has failed with an OutputLimitExceeded, and has the first bytes as its
                `stdout`.

        Returns:
            The contents, or "Ok", as `stdout` of each host.
        """
        work = self._group.make_transfer(*read(remote_path, local_path, timeout, max_output))
        return self._run(work, on_result)

    def sftp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath | None = None,
        *,
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Store a local file on all hosts, at the same path if `remote_path` is None.

        Returns:
            "Ok" as `stdout` of each host.
        """
        return self._run(
            self._group.make_transfer(*write(local_path, remote_path, timeout)), on_result
        )

    def sftp_write_data(
        self,
        data: str | bytes,
        remote_path: AnyPath,
        *,
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Store `data` (text as UTF-8) as a file on all hosts; return as `sftp_write`."""
        return self._run(
            self._group.make_transfer(*write_data(data, remote_path, timeout)), on_result
        )

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
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Store a directory on all hosts; see `AsyncConnection.sftp_put_dir`.

        Args:
            timeout: **seconds** for one host; None means the connection's limit, 0 no limit.
            on_result: see `execute`.

        Returns:
            For each host "Ok" as `stdout`, and its lists as `transfer`. A host on which files
            have failed is a failure: `stderr` has a line for each of them, and `error` is that
            of the first.
        """
        how = TreeArguments(
            follow_symlinks, preserve_permissions, fail_fast, preserve_times, preserve
        )
        work = self._group.make_transfer(*put_dir(local_path, remote_path, how, timeout))
        return self._run(work, on_result)

    def sftp_get_dir(
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
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Fetch a directory from all hosts; otherwise as `sftp_put_dir`.

        Args:
            local_path: a function from host to path. A path is for one host: two of them would
                mix their files, so the others fail.
        """
        how = TreeArguments(
            follow_symlinks, preserve_permissions, fail_fast, preserve_times, preserve
        )
        work = self._group.make_transfer(*get_dir(remote_path, local_path, how, timeout))
        return self._run(work, on_result)

    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: LocalPath | None = None,
        *,
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Fetch a file from all hosts with their scp; otherwise as `sftp_read`."""
        work = self._group.make_transfer(*scp_read(remote_path, local_path, timeout))
        return self._run(work, on_result)

    def scp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath,
        *,
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Store a local file on all hosts with their scp; otherwise as `sftp_write`."""
        work = self._group.make_transfer(*scp_write(local_path, remote_path, timeout))
        return self._run(work, on_result)

    def scp_write_data(
        self,
        data: str | bytes,
        remote_path: AnyPath,
        *,
        timeout: Seconds | None = None,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Store `data` as a file on all hosts with their scp; otherwise as `sftp_write_data`."""
        work = self._group.make_transfer(*scp_write_data(data, remote_path, timeout))
        return self._run(work, on_result)

    def tail(self, remote_file: AnyPath) -> MultiFileTailer:
        """Follow what is added to a file of all hosts, in a context manager."""
        return MultiFileTailer(self._run, TailJob.everywhere(self._group, remote_file))

    def tail_map(self, host_file_map: Mapping[str, AnyPath]) -> MultiFileTailer:
        """Follow a different file on each host that is in the mapping, as `tail`."""
        return MultiFileTailer(self._run, TailJob.mapped(self._group, host_file_map))
