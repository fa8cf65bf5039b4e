"""The scp methods of `Connection`: single files, through the server's scp program."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import TYPE_CHECKING

from .._protocol import scp as ops
from ..errors import NotText

if TYPE_CHECKING:
    from .._drive.connect import Session

__all__ = ["read", "write", "write_data"]

LocalPath = str | os.PathLike[str]


def read(
    session: Session,
    remote_path: str,
    local_path: LocalPath | None,
    encoding: str | None,
    seconds: float | None,
) -> str | bytes:
    if local_path is None:
        memory = io.BytesIO()
        session.call(ops.receive(session.link, remote_path, memory.write), seconds, "scp")
        return decode(memory.getvalue(), encoding, remote_path)
    target = os.path.expanduser(os.fspath(local_path))
    with open(target, "wb") as file:
        session.call(ops.receive(session.link, remote_path, file.write), seconds, "scp")
    return "Ok"


def write(session: Session, local_path: LocalPath, remote_path: str, seconds: float | None) -> None:
    source = os.path.expanduser(os.fspath(local_path))
    with open(source, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", source)
        op = ops.send(session.link, remote_path, info.st_mode, info.st_size, file.read)
        session.call(op, seconds, "scp")


def write_data(
    session: Session, data: str | bytes, remote_path: str, seconds: float | None
) -> None:
    raw = data.encode() if isinstance(data, str) else bytes(data)
    op = ops.send(session.link, remote_path, 0o644, len(raw), io.BytesIO(raw).read)
    session.call(op, seconds, "scp")


def decode(data: bytes, encoding: str | None, path: str) -> str | bytes:
    """File contents as asked for; never with silent replacements.

    Raises:
        NotText: the contents are not text in that encoding.
    """
    if encoding is None:
        return data
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise NotText(
            f"{path} is not {encoding} text (byte {error.start}): encoding=None gives bytes"
        ) from error
