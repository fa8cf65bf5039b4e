"""Copies a file on the server, and gives a file a second name there; `SFTP.copy` and `link` do.

`sftp_calls.py` makes the operations. The bytes stay on the server where it has ``copy-data``
(draft-ietf-secsh-filexfer-extensions-00 section 7, which OpenSSH has since 9.0). Elsewhere they
come and go by this machine, in bounded memory. A copy of a file to itself, under another name,
leaves it as it is and does not empty it.
"""

from __future__ import annotations

import errno
import stat as modes

from ..._policy.sftp import SFTPAttributes, decode_path, make_file_error
from ...errors import SFTPError
from ..core import Op
from . import wire
from .home import expand_home
from .ops import Handle, explain
from .request import Request
from .session import SftpSession, SftpState, wait
from .stream import Stream
from .transfer_context import Meter
from .wire import string

__all__ = ["copy_file", "make_hard_link"]

_COPY = b"copy-data"
_LINK = b"hardlink@openssh.com"
#: Bytes that one request copies; sftp-server answers nothing else meanwhile.
COPIED_AT_ONCE = 32 * 1024 * 1024
#: Bytes that come and go at once.
BUFFER = 1024 * 1024
#: The same where only one file may be open.
PIECE = 4 * 1024 * 1024
DOING = "copy"
_WRITE = wire.FXF_WRITE | wire.FXF_CREAT


def make_hard_link(sftp: SftpState, source: bytes, target: bytes) -> Op[None]:
    """Give a file another name, as `os.link` does.

    Raises:
        SFTPError: it failed; EOPNOTSUPP if the server cannot.
    """
    session = yield from sftp.get_session()
    source, target = (yield from expand_home(sftp, source)), (yield from expand_home(sftp, target))
    if _LINK not in session.machine.extensions:
        raise make_file_error(errno.EOPNOTSUPP, "link", source, target)
    request = session.machine.queue_extended(_LINK, string(source) + string(target))
    yield from wait(session, request)
    if request.status:
        raise (yield from explain(session, request, "link", source, target))


def copy_file(sftp: SftpState, source: bytes, target: bytes, meter: Meter) -> Op[int]:
    """Copy a file on the server; return its size. A new file gets the permissions of the other.

    Raises:
        SFTPError: it failed; and whatever the meter's callback raises.
    """
    session = yield from sftp.get_session()
    source, target = (yield from expand_home(sftp, source)), (yield from expand_home(sftp, target))
    yield from _check_other(session, source, target)
    if session.machine.server.get_most_open_files(None) > 1:
        size = yield from _copy_with_both_open(session, source, target, meter)
        if size is not None:
            return size
    return (yield from _copy_in_turn(session, source, target, meter))


def _copy_with_both_open(
    session: SftpSession, source: bytes, target: bytes, meter: Meter
) -> Op[int | None]:
    """Copy with both files open; return None if the server does not bear that."""
    paths = source, target
    reader = yield from _open(session, source, wire.FXF_READ, None, paths, lasting=True)
    writer: Handle | None = None
    try:
        mode, expected = yield from _stat_source(reader, paths, meter)
        try:
            writer = yield from _open(session, target, _WRITE, mode, paths, lasting=True)
        except SFTPError as error:
            # A bare "failure" may be about the number of files, too; otherwise it comes again.
            if error.errno in (errno.EMFILE, errno.EIO):
                return None
            raise
        # What is there is cut at the end and not before: it may be the source.
        before = (yield from _ask_attributes(writer)).st_size
        size = yield from _copy_contents(session, reader, writer, expected, meter)
        if before is None or before > size:
            yield from writer.ask(wire.FSETSTAT, wire.encode_setting(size=size), DOING)
        yield from writer.close()
        yield from meter.report(size, final=True)
        return size
    except SFTPError as error:
        if error is meter.raised or error.filename2 is not None or error.errno is None:
            raise
        raise make_file_error(error.errno, DOING, source, target, status=error.status) from error
    finally:
        reader.forget()
        if writer is not None:
            writer.forget()


def _copy_in_turn(session: SftpSession, source: bytes, target: bytes, meter: Meter) -> Op[int]:
    """Copy with one file open at a time, piece by piece; return its size."""
    paths = source, target
    at, mode, before, is_over = 0, None, None, False
    while not is_over:
        reader = yield from _open(session, source, wire.FXF_READ, None, paths)
        try:
            if not at:
                mode, _ = yield from _stat_source(reader, paths, meter)
            piece = yield from _read(reader, at)
        finally:
            reader.forget()
        is_over = len(piece) < PIECE
        if at and not piece:
            break
        writer = yield from _open(session, target, _WRITE, mode, paths)
        try:
            if not at:
                before = (yield from _ask_attributes(writer)).st_size
            stream = Stream(writer)
            yield from stream.write(at, piece)
            yield from stream.settle()
            at += len(piece)
            yield from writer.close()
        finally:
            writer.forget()
        yield from meter.report(at)
    if before is None or before > at:
        body = string(target) + wire.encode_setting(size=at)
        cut = yield from wait(session, session.machine.request(wire.SETSTAT, body))
        if cut.status:
            raise (yield from explain(session, cut, DOING, *paths))
    yield from meter.report(at, final=True)
    return at


def _read(reader: Handle, at: int) -> Op[memoryview]:
    """Return a piece of a file; a shorter one is the last."""
    stream, view, have = Stream(reader), memoryview(bytearray(PIECE)), 0
    try:
        while have < PIECE and (count := (yield from stream.read_into(at + have, view[have:]))):
            have += count
        return view[:have]
    finally:
        stream.drop()


def _stat_source(
    reader: Handle, paths: tuple[bytes, bytes], meter: Meter
) -> Op[tuple[int | None, int]]:
    """Return the permissions of the source, and the size that the server tells."""
    found = yield from _ask_attributes(reader)
    if modes.S_ISDIR(found.st_mode):
        raise make_file_error(errno.EISDIR, DOING, *paths)
    meter.total = found.st_size
    return (found.st_mode & 0o777 if found.st_mode else None), found.st_size or 0


def _open(
    session: SftpSession,
    path: bytes,
    flags: int,
    mode: int | None,
    paths: tuple[bytes, bytes],
    *,
    lasting: bool = False,
) -> Op[Handle]:
    """Open a file; with `lasting` an error comes of it where the server bears no other one."""
    body = string(path) + wire.U32.pack(flags) + wire.encode_setting(mode=mode)
    tag = "write" if flags & wire.FXF_WRITE else None
    asked = session.machine.request(wire.OPEN, body, tag=tag, lasting=lasting)
    request = yield from wait(session, asked)
    if request.status:
        raise (yield from explain(session, request, DOING, *paths, look_at=path))
    return Handle(session, request.value, path)


def _ask_attributes(handle: Handle) -> Op[SFTPAttributes]:
    """Return what the server tells of an open file; some tell nothing."""
    session = handle.session
    found = yield from wait(session, session.machine.queue_about(wire.FSTAT, handle.id))
    attributes: SFTPAttributes | None = found.value
    return SFTPAttributes() if attributes is None else attributes


def _check_other(session: SftpSession, source: bytes, target: bytes) -> Op[None]:
    """Raise shutil.SameFileError if both paths are the same without their links."""
    asked = [session.machine.request(wire.REALPATH, string(path)) for path in (source, target)]
    real = []
    for request in asked:
        names = (yield from wait(session, request)).value
        real.append(names[0].name if names else None)
    if real[0] is not None and real[0] == real[1]:
        from shutil import SameFileError  # slow to import, and hardly ever needed

        text = "it would be copied onto itself"
        raise SameFileError(errno.EINVAL, text, decode_path(source), None, decode_path(target))


def _copy_contents(
    session: SftpSession, reader: Handle, writer: Handle, size: int, meter: Meter
) -> Op[int]:
    """Copy all bytes; return their number."""
    done = 0
    while _COPY in session.machine.extensions and done < size:
        piece = min(COPIED_AT_ONCE, size - done)
        reply = yield from _ask_copy(session, reader, writer, done, piece)
        if reply.status:
            break  # such as for two names of one file, or one that was cut meanwhile
        done += piece
        yield from meter.report(done)
    # Files of /proc and the like have more than they say, and any may have grown.
    return (yield from _copy_by_this_machine(reader, writer, done, meter))


def _ask_copy(
    session: SftpSession, reader: Handle, writer: Handle, offset: int, size: int
) -> Op[Request]:
    """Have the server copy `size` bytes to the same offset."""
    start, length = wire.U64.pack(offset), wire.U64.pack(size)
    body = string(reader.id) + start + length + string(writer.id) + start
    return (yield from wait(session, session.machine.queue_extended(_COPY, body, handle=writer.id)))


def _copy_by_this_machine(reader: Handle, writer: Handle, at: int, meter: Meter) -> Op[int]:
    """Copy what follows an offset; return the offset of the end."""
    source, target = Stream(reader), Stream(writer)
    try:
        while True:
            view = memoryview(bytearray(BUFFER))
            count = yield from source.read_into(at, view)
            if not count:
                yield from target.settle()
                return at
            yield from target.write(at, view[:count])
            at += count
            yield from meter.report(at)
    finally:
        source.drop()
