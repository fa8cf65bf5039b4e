"""An open remote file with a position, unbuffered; the file objects of `_api` are made of it.

`io` buffers it for threads, `sftp.buffer` and `sftp.text` for tasks. It runs one operation at a
time. An operation that is cancelled leaves the position where it was. Nothing here knows text or
lines.
"""

from __future__ import annotations

import errno
import io
import os
from typing import NamedTuple

from ..._policy.sftp import FILE_MOST, AnyPath, encode_path, make_file_error
from ..core import Op
from .ops import check_size, open_handle
from .session import SftpState
from .stream import Stream
from .wire import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    encode_setting,
)

__all__ = ["OVERWRITE", "File", "Mode", "open_file"]

_FLAGS = {
    "r": FXF_READ,
    "w": FXF_WRITE | FXF_CREAT | FXF_TRUNC,
    "a": FXF_WRITE | FXF_CREAT | FXF_APPEND,
    "x": FXF_WRITE | FXF_CREAT | FXF_EXCL,
    "o": FXF_WRITE | FXF_CREAT,  # see `OVERWRITE`
}


class Mode(NamedTuple):
    """A mode of the built-in `open`, taken apart."""

    kind: str
    update: bool
    binary: bool

    @classmethod
    def parse(cls, mode: str) -> Mode:
        """Parse a mode; raise ValueError as `open` does."""
        letters = set(mode)
        kinds = letters & set(_FLAGS)
        known = not letters - set("rwaxbt+") and len(letters) == len(mode)
        if not known or len(kinds) != 1 or {"b", "t"} <= letters:
            raise ValueError(f"invalid mode: {mode!r}")
        return cls(kinds.pop(), "+" in letters, "b" in letters)

    @property
    def readable(self) -> bool:
        return self.kind == "r" or self.update

    @property
    def writable(self) -> bool:
        return self.kind != "r" or self.update

    @property
    def flags(self) -> int:
        return _FLAGS[self.kind] | (FXF_READ | FXF_WRITE if self.update else 0)

    def __str__(self) -> str:
        return self.kind + "b" + ("+" if self.update else "")


#: What is there stays until it is written over; the built-in `open` has no such mode.
OVERWRITE = Mode("o", update=False, binary=True)


def open_file(sftp: SftpState, path: AnyPath, mode: Mode) -> Op[File]:
    """Open a file; a bad path raises at once."""
    return _open(sftp, encode_path(path), os.fspath(path), mode)


def _open(sftp: SftpState, path: bytes, name: str | bytes, mode: Mode) -> Op[File]:
    handle = yield from open_handle(sftp, path, mode.flags)
    file = File(Stream(handle), name, mode)
    if mode.kind == "a":
        try:
            yield from file.seek(0, io.SEEK_END)
        except BaseException:
            handle.forget()
            raise
    return file


class File:
    """An open file.

    Attributes:
        name: the path as given.
        at: the position.
    """

    def __init__(self, stream: Stream, name: str | bytes, mode: Mode) -> None:
        self.stream = stream
        self.name = name
        self.mode = mode
        self.at: int = 0

    def check_readable(self) -> None:
        if not self.mode.readable:
            raise io.UnsupportedOperation("not readable")

    def check_writable(self) -> None:
        if not self.mode.writable:
            raise io.UnsupportedOperation("not writable")

    def read_into(self, view: memoryview) -> Op[int]:
        """Read some bytes; return 0 at the end of the file."""
        self.check_readable()
        count = yield from self.stream.read_into(self.at, view)
        self.at += count
        return count

    def write(self, data: bytes) -> Op[int]:
        """Write all of it."""
        self.check_writable()
        yield from self.stream.write(self.at, data)
        self.at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int) -> Op[int]:
        if whence != io.SEEK_END:
            return self.move(offset, whence)
        return self.move((yield from self.stream.find_size()) + offset, io.SEEK_SET)

    def move(self, offset: int, whence: int) -> int:
        """Set the position as `seek` does, except from the end."""
        if whence == io.SEEK_CUR:
            offset += self.at
        elif whence != io.SEEK_SET:
            raise ValueError(f"invalid whence: {whence}")
        if not 0 <= offset < FILE_MOST:
            raise make_file_error(errno.EINVAL, "seek", self.name)
        self.at = offset
        return offset

    def truncate(self, size: int | None) -> Op[int]:
        """Cut or extend the file, to the position for None; the position does not move."""
        self.check_writable()
        size = self.at if size is None else size
        if not 0 <= size < FILE_MOST:
            raise make_file_error(errno.EINVAL, "truncate", self.name)
        yield from self.stream.set(encode_setting(size=size), "truncate")
        handle = self.stream.handle
        if not handle.session.machine.server.is_openssh:
            check_size((yield from handle.fetch_attributes()), size, handle.path)
        return size
