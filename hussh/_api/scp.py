"""The scp methods of `Connection`: single files, through the server's scp program."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from .._policy.sftp import AnyPath, decode_path, encode_path
from .._protocol import scp as ops
from ..errors import NotText
from .arguments import input_bytes

if TYPE_CHECKING:
    from .._drive.connect import Session

__all__ = ["decode", "local_name", "read", "remote_name", "write", "write_data"]


def remote_name(path: AnyPath) -> str:
    """As text with surrogates; TypeError for what is no path, ValueError for a NUL."""
    return decode_path(encode_path(path))


def local_name(path: AnyPath) -> str:
    return os.path.expanduser(os.fsdecode(path))


def read(
    session: Session,
    remote_path: AnyPath,
    local_path: AnyPath | None,
    encoding: str | None,
    seconds: float | None,
) -> str | bytes:
    remote = remote_name(remote_path)
    if local_path is None:
        memory = io.BytesIO()
        session.call(ops.receive(session.link, remote, memory.write), seconds, "scp")
        return decode(memory.getvalue(), encoding, remote)
    session.call(ops.fetch(session.link, remote, local_name(local_path)), seconds, "scp")
    return "Ok"


def write(
    session: Session, local_path: AnyPath, remote_path: AnyPath, seconds: float | None
) -> None:
    op = ops.store(session.link, local_name(local_path), remote_name(remote_path))
    session.call(op, seconds, "scp")


def write_data(
    session: Session, data: str | bytes, remote_path: AnyPath, seconds: float | None
) -> None:
    raw, remote = input_bytes(data), remote_name(remote_path)
    op = ops.send(session.link, remote, 0o644, len(raw), io.BytesIO(raw).read)
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
