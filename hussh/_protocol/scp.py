"""The scp protocol over an exec channel: ``scp -f`` sends to us, ``scp -t`` takes from us.

It has no RFC; it is what OpenSSH's scp.c speaks.  Only single files: we never
ask for a directory, and the server's idea of a file's name is ignored, so it
cannot write another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, TypeVar

from .._native.link import Channel, Link
from .._policy.sftp import file_error
from ..errors import ChannelError, ProtocolError, SFTPError
from .core import Blocking, Op
from .process import Exit, read, start, wait, write

__all__ = ["fetch", "receive", "send", "store"]

A = TypeVar("A")
T = TypeVar("T")

LINE_MAX = 8192
CHUNK = 1 << 20
#: The name in the header counts only where the target is a directory.  We mean
#: the target itself, so there it shall fail: no file system takes such a name.
NO_NAME = b"x" * 300
_HEADER = re.compile(rb"C[0-7]{4} ([0-9]{1,18}) .*", re.DOTALL)


class _Peer:
    """The other scp: lines and bytes from its stdout, its words on stderr."""

    def __init__(self, channel: Channel, doing: str, path: str) -> None:
        self.channel = channel
        self.doing = doing
        self.path = path
        self.buffer = bytearray()

    def fill(self) -> Op[None]:
        part = yield from read(self.channel, 0, CHUNK)
        if not part:
            raise (yield from self.failure())
        self.buffer += part

    def line(self) -> Op[bytes]:
        """Up to a newline, which is taken off."""
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > LINE_MAX:
                raise ProtocolError("the server's scp sent an endless line", phase="scp")
            yield from self.fill()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def byte(self) -> Op[int]:
        while not self.buffer:
            yield from self.fill()
        value = self.buffer[0]
        del self.buffer[:1]
        return value

    def take(self, most: int) -> bytearray:
        """What is there, at most `most` bytes, without a copy where that is all."""
        part, self.buffer = self.buffer, bytearray()
        if len(part) > most:
            self.buffer = part[most:]
            del part[most:]
        return part

    def accepted(self) -> Op[None]:
        """An answer of one byte: 0 is yes, 1 and 2 come with a line that says why not."""
        code = yield from self.byte()
        if code != 0:
            text = yield from self.line()
            raise self.error(text)

    def failure(self) -> Op[Exception]:
        """It ended early: what it said, or how it ended."""
        ended: Exit = yield from wait(self.channel)
        said = bytearray()
        while len(said) < LINE_MAX and (part := (yield from read(self.channel, 1, LINE_MAX))):
            said += part
        if ended.status == 127:
            return self._told(errno.ENOSYS, reason="the server has no scp program; use sftp")
        return self.error(bytes(said) or f"scp ended with status {ended.status}".encode())

    def error(self, said: bytes) -> SFTPError:
        """An error of the fitting kind, as far as the words tell."""
        text = said.decode("utf-8", "replace").strip().removeprefix("scp: ")
        text = text.removeprefix(f"{self.path}: ")
        kinds = {
            "File name too long": errno.EISDIR,  # see NO_NAME
            "No such file": errno.ENOENT,
            "Permission denied": errno.EACCES,
            "not a regular file": errno.EISDIR,
            "s a directory": errno.EISDIR,
            "No space left": errno.ENOSPC,
            "Read-only": errno.EROFS,
        }
        code = next((code for words, code in kinds.items() if words in text), None)
        if code is None:
            text = "".join(char if char.isprintable() else " " for char in text)[:500]
            return self._told(errno.EIO, reason=text)
        return self._told(code, said="" if code == errno.EISDIR else text)

    def _told(self, code: int, *, said: str = "", reason: str = "") -> SFTPError:
        return _of_scp(file_error(code, self.doing, self.path, said=said, reason=reason))


def receive(
    link: Link,
    path: str,
    sink: Callable[[bytes | bytearray], object],
    begin: Callable[[float | None], object] | None = None,
) -> Op[int]:
    """Fetch one file; `sink` gets its bytes, piece by piece.  Returns its size.

    `begin` is called once the server has promised a file.

    Raises SFTPError with the server's words: missing, not permitted, a directory.
    """
    command = f"scp -f -- {shlex.quote(path)}".encode("utf-8", "surrogateescape")
    channel = yield from start(link, command)
    try:
        peer = _Peer(channel, "read", path)
        yield from write(channel, b"\0")
        line = yield from peer.line()
        if line[:1] in (b"\1", b"\2"):
            raise peer.error(line[1:])
        header = _HEADER.fullmatch(line)
        if header is None:
            raise ProtocolError("the server's scp sent no file header", phase="scp")
        if begin is not None:
            yield Blocking(begin)
        yield from write(channel, b"\0")
        size = left = int(header[1])
        while left:
            if not peer.buffer:
                yield from peer.fill()
            part = peer.take(left)
            left -= len(part)
            yield Blocking(partial(_local, sink, part))
        yield from peer.accepted()
        with contextlib.suppress(ChannelError):  # all is here; it need not wait for our word
            yield from write(channel, b"\0")
        return size
    finally:
        channel.free()


def send(link: Link, path: str, mode: int, size: int, source: Callable[[int], bytes]) -> Op[None]:
    """Store one file of exactly `size` bytes; `source(n)` gives at most n of them.

    Raises SFTPError with the server's words; EISDIR where `path` is a directory.
    """
    command = f"scp -t -- {shlex.quote(path)}".encode("utf-8", "surrogateescape")
    channel = yield from start(link, command)
    try:
        peer = _Peer(channel, "write", path)
        yield from peer.accepted()
        yield from write(channel, b"C%04o %d %b\n" % (mode & 0o7777, size, NO_NAME))
        yield from peer.accepted()
        left = size
        while left:
            part = yield Blocking(partial(_local, source, min(left, CHUNK)))
            if not part:
                reason = f"the source ended {left} bytes early"
                raise _of_scp(file_error(errno.EIO, "write", path, reason=reason))
            left -= len(part)
            yield from write(channel, part)
        yield from write(channel, b"\0")
        yield from peer.accepted()
        channel.eof()
        yield from wait(channel)
    finally:
        channel.free()


def _local(call: Callable[[A], T], argument: A, _left: object) -> T:
    return call(argument)


def fetch(link: Link, path: str, local: str) -> Op[None]:
    """`receive` into a local file, which is not touched before the server has promised one.

    Raises SFTPError, also for the local file; the error then names both.
    """
    file = _LocalFile(local, path)
    try:
        yield from receive(link, path, file.write, file.open)
    finally:
        file.close()


def store(link: Link, local: str, path: str) -> Op[None]:
    """`send` a local file, with its permission bits; raises as `fetch`."""
    named = partial(_named, "upload", local, path)

    def begin(_left: object) -> BinaryIO:
        with named():
            return open(local, "rb")

    def source(size: int) -> bytes:
        with named():
            return file.read(size)

    file: BinaryIO = yield Blocking(begin)
    with file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            reason = "not a regular file"
            raise _of_scp(file_error(errno.EINVAL, "upload", local, path, reason=reason))
        yield from send(link, path, info.st_mode, info.st_size, source)


class _LocalFile:
    """A file to write that does not exist before `open`."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._file: BinaryIO | None = None

    def open(self, _left: float | None = None) -> _LocalFile:
        """Returns what a driver closes that has given up this call meanwhile."""
        with self._named():
            self._file = open(self._path, "wb")  # noqa: SIM115  (see close)
        return self

    def write(self, data: bytes | bytearray) -> None:
        assert self._file is not None  # noqa: S101  (opened before anything arrives)
        with self._named():
            self._file.write(data)

    def close(self) -> None:
        if self._file is not None:
            with self._named():  # some file systems tell only now that they are full
                self._file.close()

    def _named(self) -> contextlib.AbstractContextManager[None]:
        return _named("download", self._source, self._path)


@contextlib.contextmanager
def _named(doing: str, source: str, target: str) -> Iterator[None]:
    """An error of the file that is here names both."""
    try:
        yield
    except OSError as error:
        code = error.errno or errno.EIO
        told = file_error(code, doing, source, target, said="on this machine")
        raise _of_scp(told) from error


def _of_scp(error: SFTPError) -> SFTPError:
    error.phase = "scp"
    return error
