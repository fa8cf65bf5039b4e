"""`FileTailer`: what is added to a remote file, as it comes.

`Connection.tail` in `files.py` makes one; 0.3.3's programs also make it themselves.
`_protocol/sftp/tail.py` does the work. A finalizer never waits: the file is closed at the next use
of the connection.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from .._policy.sftp import AnyPath, encode_path
from .._protocol.sftp.tail import Tail
from .arguments import check_position
from .closing import Closing
from .sftp_run import BaseRunner, HasFiles, Runner

__all__ = ["FileTailer", "Tailer"]

R = TypeVar("R", bound=BaseRunner[Any])


class Tailer(Generic[R]):
    """What `FileTailer` and `AsyncFileTailer` have in common."""

    def __init__(self, remote_file: AnyPath, init_pos: int | None) -> None:
        self.remote_file = remote_file
        self.contents: str | None = None
        self._path = encode_path(remote_file)
        self._init_pos = check_position(init_pos)
        self._used: tuple[R, Tail] | None = None

    @property
    def last_pos(self) -> int:
        """The offset in bytes up to which was read."""
        return 0 if self._used is None else self._used[1].last_pos

    def _make_runner(self) -> R:
        raise NotImplementedError

    def _get_tail(self) -> tuple[R, Tail]:
        """Return the runner of operations, from the first use on, and the file that is followed."""
        if self._used is None:
            run = self._make_runner()
            self._used = run, Tail(run.sftp, self._path, self._init_pos)
        return self._used

    def _close(self) -> None:
        if self._used is not None:
            run, tail = self._used
            run.session.call_at_once(tail.close)

    def __del__(self) -> None:
        used = getattr(self, "_used", None)
        if used is not None:
            used[0].call_later(Tail.close, used[1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(remote_file={self.remote_file!r}, last_pos={self.last_pos})"


class FileTailer(Tailer[Runner], Closing):
    """Follows a file from the moment its ``with`` block begins; see `Connection.tail`.

    A file that is cut short is read again from its beginning. If a file is replaced under its name
    (rotated), first the rest of the old file is read, then the new one from its beginning. A
    character whose bytes are not all there yet comes with the next read.

    Args:
        conn: a connection to the file's server.
        remote_file: its path.
        init_pos: offset in bytes where `contents` begins; None means its end when the block
            begins.

    Attributes:
        remote_file: the path.
        contents: after the block, all that came since it began; None before.
    """

    def __init__(self, conn: HasFiles, remote_file: AnyPath, init_pos: int | None = None) -> None:
        super().__init__(remote_file, init_pos)
        self._conn = conn

    def seek_end(self) -> int:
        """Skip to the present end of the file; return that offset."""
        run, tail = self._get_tail()
        return run(tail.seek_end(), "follow")

    def read(self, from_pos: int | None = None) -> str:
        """Return what was added since the last read, or everything from an offset on; maybe "".

        Raises:
            SFTPError: such as FileNotFoundError if there never was such a file.
            TypeError, ValueError: `from_pos` is no offset.
        """
        run, tail = self._get_tail()
        return run(tail.read(check_position(from_pos)), "follow")

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._close()

    def __enter__(self) -> FileTailer:
        run, tail = self._get_tail()
        run(tail.begin(), "follow")
        return self

    def _leave(self) -> None:
        run, tail = self._get_tail()
        self.contents: str | None = run(tail.end(), "follow")

    def _make_runner(self) -> Runner:
        return Runner(self._conn)
