"""The scp protocol over an exec channel: ``scp -f`` sends to us, ``scp -t`` takes from us.

`scp_files.py` runs its operations with a user's paths. The protocol has no RFC; it is what
OpenSSH's scp.c does. It copies single files only. We never ask for a directory, and ignore the name
that the server gives a file, so the server cannot write another file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from .._native.channel import Channel
from .._native.link import Link
from .._policy.sftp import make_file_error
from ..errors import ChannelError, HusshError, Phase, ProtocolError, SFTPError, printable
from .core import Op, RunBlocking
from .process import Exit, read, start, wait, write
from .sftp.local_file import FileSink, FileSource
from .sftp.warnings import warn

__all__ = ["fetch", "receive", "send", "store"]

A = TypeVar("A")
T = TypeVar("T")

LINE_MAX = 8192
CHUNK = 1 << 20
#: The name in the header counts only where the target is a directory.  We mean
#: the target itself, so a directory shall make it fail: no file system takes such a name.
NO_NAME = b"x" * 300
#: Bytes that any file system here takes in one name (NAME_MAX).
LONGEST_NAME = 255
#: How scp.c says that a file is there, but not its mode or times.
_REFUSED = rb": set (?:mode|times): "
_HEADER = rb"C[0-7]{4} ([0-9]{1,18}) .*"


class _Peer:
    """The other scp: lines and bytes from its stdout, its messages on stderr.

    `doing` is the verb that errors use for what was done to `path`.
    """

    def __init__(self, channel: Channel, doing: str, path: str) -> None:
        self.channel = channel
        self.doing = doing
        self.path = path
        self.buffer = bytearray()

    def fill(self) -> Op[None]:
        part = yield from read(self.channel, 0, CHUNK)
        if not part:
            raise (yield from self.make_failure())
        self.buffer += part

    def read_line(self) -> Op[bytes]:
        """Read up to a newline, which is removed."""
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > LINE_MAX:
                raise ProtocolError("the server's scp sent an endless line", phase=Phase.SCP)
            yield from self.fill()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def read_byte(self) -> Op[int]:
        while not self.buffer:
            yield from self.fill()
        value = self.buffer[0]
        del self.buffer[:1]
        return value

    def take(self, most: int) -> bytearray:
        """Return what has come, at most `most` bytes, without a copy if that is all."""
        part, self.buffer = self.buffer, bytearray()
        if len(part) > most:
            self.buffer = part[most:]
            del part[most:]
        return part

    def check_accepted(self) -> Op[None]:
        """Read an answer of one byte: 0 is yes; 1 and 2 come with a line that says why not."""
        code = yield from self.read_byte()
        if code != 0:
            text = yield from self.read_line()
            raise self.make_error(text)

    def check_stored(self) -> Op[None]:
        """Read the answer after a file's contents; a mode that was refused fails nothing."""
        code = yield from self.read_byte()
        if code != 0:
            text = yield from self.read_line()
            if code != 1 or not re.search(_REFUSED, text):
                raise self.make_error(text)
            yield from warn(f"upload by scp: {printable(text.decode('utf-8', 'replace'), 500)}")

    def make_failure(self) -> Op[Exception]:
        """Return the error for an early end: what the other scp wrote, or how it ended."""
        ended: Exit = yield from wait(self.channel)
        server_text = bytearray()
        while len(server_text) < LINE_MAX and (
            part := (yield from read(self.channel, 1, LINE_MAX))
        ):
            server_text += part
        if ended.status == 127:
            no_scp = "the server has no scp program; use sftp"
            return _make_error(errno.ENOSYS, self.doing, self.path, reason=no_scp)
        return self.make_error(
            bytes(server_text) or f"scp ended with status {ended.status}".encode()
        )

    def make_error(self, server_text: bytes) -> SFTPError:
        """Return an error of the fitting kind, as far as the text tells."""
        text = server_text.decode("utf-8", "replace").strip().removeprefix("scp: ")
        text = text.removeprefix(f"{self.path}: ")
        text = printable(text, 500)
        kinds = {
            "File name too long": errno.EISDIR,  # see NO_NAME
            "No such file": errno.ENOENT,
            "Permission denied": errno.EACCES,
            "not a regular file": errno.EISDIR,  # said of directories, and also of devices
            "s a directory": errno.EISDIR,
            "No space left": errno.ENOSPC,
            "Read-only": errno.EROFS,
        }
        code = next((code for words, code in kinds.items() if words in text), errno.EIO)
        reason = text if code == errno.EIO or "not a regular file" in text else ""
        name = os.fsencode(os.path.basename(self.path))
        if "File name too long" in text and len(name) > LONGEST_NAME:
            code = errno.ENAMETOOLONG
        return _make_error(code, self.doing, self.path, reason=reason)


def _make_error(
    code: int,
    doing: str,
    path: str,
    path2: str | None = None,
    *,
    server_text: str = "",
    reason: str = "",
) -> SFTPError:
    error = make_file_error(code, doing, path, path2, server_text=server_text, reason=reason)
    error.phase = str(Phase.SCP)
    return error


@contextlib.contextmanager
def _name_local_errors(doing: str, path: str, path2: str) -> Iterator[None]:
    """Name both files in the errors of the local one."""
    try:
        yield
    except OSError as error:
        if isinstance(error, HusshError):
            raise
        shown_error = _make_error(
            error.errno or errno.EIO, doing, path, path2, server_text="on this machine"
        )
        raise shown_error from error


def receive(
    link: Link,
    path: str,
    sink: Callable[[bytes | bytearray], object],
    begin: Callable[[float | None], object] | None = None,
) -> Op[int]:
    """Fetch one file; `sink` gets its bytes, piece by piece. Return its size.

    `begin` is called once the server has promised a file.

    Raises:
        SFTPError: the file is missing, not permitted, or a directory.
    """
    command = f"scp -f -- {shlex.quote(path)}".encode("utf-8", "surrogateescape")
    channel = yield from start(link, command)
    try:
        peer = _Peer(channel, "read", path)
        yield from write(channel, b"\0")
        line = yield from peer.read_line()
        if line[:1] in (b"\1", b"\2"):
            raise peer.make_error(line[1:])
        header = re.fullmatch(_HEADER, line, re.DOTALL)
        if header is None:
            raise ProtocolError("the server's scp sent no file header", phase=Phase.SCP)
        if begin is not None:
            yield RunBlocking(begin)
        yield from write(channel, b"\0")
        size = left = int(header[1])
        while left:
            if not peer.buffer:
                yield from peer.fill()
            part = peer.take(left)
            left -= len(part)
            yield RunBlocking(partial(_call_local, sink, part))
        yield from peer.check_accepted()
        with contextlib.suppress(ChannelError):  # all is here; it need not wait for our word
            yield from write(channel, b"\0")
        return size
    finally:
        channel.free()


def send(
    link: Link, path: str, mode: int, size: int, source: Callable[[int], memoryview | bytes]
) -> Op[None]:
    """Store one file of exactly `size` bytes; `source(n)` returns at most n of them.

    Raises:
        SFTPError: the server refused; EISDIR if `path` is a directory.
    """
    command = f"scp -t -- {shlex.quote(path)}".encode("utf-8", "surrogateescape")
    channel = yield from start(link, command)
    try:
        peer = _Peer(channel, "write", path)
        yield from peer.check_accepted()
        yield from write(channel, b"C%04o %d %b\n" % (mode & 0o7777, size, NO_NAME))
        yield from peer.check_accepted()
        left = size
        while left:
            part = yield RunBlocking(partial(_call_local, source, min(left, CHUNK)))
            if not part:
                raise _make_error(
                    errno.EIO, "write", path, reason=f"the source ended {left} bytes early"
                )
            left -= len(part)
            yield from write(channel, part)
        yield from write(channel, b"\0")
        yield from peer.check_stored()
        with contextlib.suppress(ChannelError):  # all is there; it need not wait for our end
            channel.send_eof()
        yield from wait(channel)
    finally:
        channel.free()


def _call_local(call: Callable[[A], T], argument: A, _left: object) -> T:
    return call(argument)


def fetch(link: Link, path: str, local: str) -> Op[None]:
    """Receive into a local file, which is not touched before the server has promised a file.

    Raises:
        SFTPError: also for the local file; the error then names both.
    """
    file = _LocalFile(local, path)
    try:
        yield from receive(link, path, file.write, file.open)
    finally:
        file.close()


def store(link: Link, local: str, path: str) -> Op[None]:
    """Send a local file, with its permission bits; raise as `fetch`."""
    with _name_local_errors("upload", local, path):
        source: FileSource = yield RunBlocking(lambda _: FileSource(os.fsencode(local)))
        try:
            info = source.info
            if source.size is None:
                raise _make_error(errno.EINVAL, "upload", local, path, reason="not a regular file")
            yield from send(link, path, info.st_mode, source.size, _make_reader(source))
        finally:
            source.close()


def _make_reader(source: FileSource) -> Callable[[int], memoryview | bytes]:
    """Return a function that returns up to so many bytes, which are valid until the next call."""
    offset = 0

    def read(size: int) -> memoryview | bytes:
        nonlocal offset
        for piece in source.read(offset, size, 1):
            offset += len(piece)
            return piece
        return b""

    return read


class _LocalFile:
    """A file to write that does not exist before `open`."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._source = source
        self._sink = FileSink(os.fsencode(path))
        self._size = 0

    def open(self, _left: float | None = None) -> None:
        with self._name_errors():
            self._sink.begin()

    def write(self, data: bytes | bytearray) -> None:
        with self._name_errors():
            self._sink.write([(self._size, memoryview(data))])
        self._size += len(data)

    def close(self) -> None:
        with self._name_errors():  # some file systems tell only now that they are full
            self._sink.end(self._size)

    def _name_errors(self) -> contextlib.AbstractContextManager[None]:
        return _name_local_errors("download", self._source, self._path)
