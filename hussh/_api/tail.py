"""`FileTailer`: what is being added to a remote file, as in hussh 0.3.3."""

from __future__ import annotations

import codecs
from types import TracebackType
from typing import TYPE_CHECKING

from .._policy.sftp import AnyPath
from .sftp_file import RawFile, open_file

if TYPE_CHECKING:
    from .sftp import SFTP

__all__ = ["FileTailer"]

CHUNK = 1 << 20


class FileTailer:
    """Follows a file from the moment its ``with`` block begins; made by `Connection.tail`.

    A file that is cut short is read again from its beginning; of one that is
    replaced under its name (rotated) first the rest of the old one is read, then
    the new one from its beginning.  A character whose bytes are not all there
    yet comes with the next read.

    Attributes:
        remote_file: the path.
        last_pos: the offset in bytes up to which was read.
        contents: after the block, all that came since it began; "" before.
    """

    def __init__(self, sftp: SFTP, remote_file: AnyPath) -> None:
        self.remote_file = remote_file
        self.last_pos = 0
        self.contents = ""
        self._sftp = sftp
        self._file: RawFile | None = None
        self._began = 0  # where the block began, in the file that is open now
        self._before = b""  # what came since then in files that are gone
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def seek_end(self) -> int:
        """Skip to the present end of the file; returns that offset."""
        self.last_pos = _size(self._open_file())
        self._decoder.reset()
        return self.last_pos

    def read(self, from_pos: int | None = None) -> str:
        """What has been added since the last read, or everything from an offset on; may be "".

        Raises:
            SFTPError: such as FileNotFoundError where there never was such a file.
        """
        if from_pos is not None:
            self.last_pos = from_pos
            self._decoder.reset()
        added = self._rest_of_replaced() if from_pos is None else b""
        file = self._open_file()
        if _size(file) < self.last_pos:  # cut short: what is there now is new
            self.last_pos = self._began = 0
        added += self._fetch(file, self.last_pos)
        return self._decoder.decode(added)

    def _fetch(self, file: RawFile, start: int) -> bytes:
        file.seek(start)
        parts = []
        buffer = bytearray(CHUNK)
        while count := file.readinto(buffer):
            parts.append(bytes(memoryview(buffer)[:count]))
        data = b"".join(parts)
        self.last_pos = start + len(data)
        return data

    def _rest_of_replaced(self) -> bytes:
        """If another file has the name now, open that one; what was left of the old one.

        SFTP tells no inode numbers.  The file under the name is the open one if its
        size and time lie between what the open one had before and has after.
        """
        old = self._open_file()
        before = old.stat()
        try:
            named = self._sftp.stat(self.remote_file)
        except FileNotFoundError:
            return b""  # moved away, and the new one is not there yet
        after = old.stat()
        if _between(before.st_size, named.st_size, after.st_size) and _between(
            before.st_mtime, named.st_mtime, after.st_mtime
        ):
            return b""
        rest = self._fetch(old, self.last_pos)
        self._before += self._again(old, self._began)
        old.close()
        self._file = self._open()
        self.last_pos = self._began = 0
        return rest

    def _again(self, file: RawFile, start: int) -> bytes:
        position = self.last_pos
        data = self._fetch(file, start)
        self.last_pos = position
        return data

    def _open(self) -> RawFile:
        return open_file(self._sftp, self.remote_file, "rb", self._sftp._run)

    def _open_file(self) -> RawFile:
        if self._file is None:
            self._file = self._open()
        return self._file

    def __enter__(self) -> FileTailer:
        self._began = self.seek_end()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._rest_of_replaced()
                file = self._open_file()
                if _size(file) < self._began:
                    self._began = 0
                data = self._before + self._again(file, self._began)
                self.contents = data.decode("utf-8", "replace")
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __repr__(self) -> str:
        return f"FileTailer(remote_file={self.remote_file!r}, last_pos={self.last_pos})"


def _size(file: RawFile) -> int:
    return file.stat().st_size or 0


def _between(low: int | None, value: int | None, high: int | None) -> bool:
    return (low or 0) <= (value or 0) <= (high or 0)
