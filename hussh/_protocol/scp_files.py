"""Copies files and bytes over scp: the operations of the ``scp_*`` methods, with a user's paths.

`files.py` and `async_files.py` of `_api` run them; `scp.py` has the protocol, of which nothing is
here.
"""

from __future__ import annotations

import io
import os

from .._native.link import Link
from .._policy.remote_path import expand_from_home, is_at_home
from .._policy.sftp import AnyPath, decode_path, encode_path
from . import scp
from .core import Op
from .growing import GrowingBytes
from .sftp.home import START

__all__ = ["fetch", "fetch_file", "store", "store_file"]


def fetch(link: Link, remote: AnyPath) -> Op[bytes]:
    """Return the contents of a remote file."""
    return _fetch(link, _encode_remote(remote))


def _fetch(link: Link, remote: str) -> Op[bytes]:
    memory = GrowingBytes()
    yield from scp.receive(link, remote, memory.append)
    return memory.take()


def fetch_file(link: Link, remote: AnyPath, local: AnyPath) -> Op[None]:
    """Copy a remote file into a local one."""
    return scp.fetch(link, _encode_remote(remote), _expand_local(local))


def store(link: Link, data: bytes, remote: AnyPath) -> Op[None]:
    """Write contents into a remote file of mode 644."""
    return scp.send(link, _encode_remote(remote), 0o644, len(data), io.BytesIO(data).read)


def store_file(link: Link, local: AnyPath, remote: AnyPath) -> Op[None]:
    """Copy a regular local file into a remote one of the same mode.

    A slash at the end of `remote` makes it the directory for the file, as in hussh 0.3.3.
    """
    here, there = _expand_local(local), _encode_remote(remote)
    if there.endswith("/"):
        there += os.path.basename(here)
    return scp.store(link, here, there)


def _encode_remote(path: AnyPath) -> str:
    """Return a remote path as text with surrogates.

    The shell at the server expands no ``~`` in quotes, and starts in the home directory.

    Raises:
        TypeError: it is no path.
        ValueError: it contains a NUL.
    """
    there = encode_path(path)
    return decode_path(expand_from_home(there, START) if is_at_home(there) else there)


def _expand_local(path: AnyPath) -> str:
    return os.path.expanduser(os.fsdecode(path))
