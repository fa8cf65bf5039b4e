"""Files and bytes over scp: what the ``scp_*`` methods run, with a user's paths and data."""

from __future__ import annotations

import io
import os

from .._native.link import Link
from .._policy.remote_path import from_home, is_at_home
from .._policy.sftp import AnyPath, decode_path, encode_path
from . import scp
from .core import Op
from .growing import GrowingBytes
from .sftp.home import START

__all__ = ["fetch", "fetch_file", "store", "store_file"]


def fetch(link: Link, remote: AnyPath) -> Op[bytes]:
    """The contents of a remote file."""
    return _fetch(link, _remote(remote))


def _fetch(link: Link, remote: str) -> Op[bytes]:
    memory = GrowingBytes()
    yield from scp.receive(link, remote, memory.append)
    return memory.take()


def fetch_file(link: Link, remote: AnyPath, local: AnyPath) -> Op[None]:
    """A remote file into a local one."""
    return scp.fetch(link, _remote(remote), _local(local))


def store(link: Link, data: bytes, remote: AnyPath) -> Op[None]:
    """Contents into a remote file of mode 644."""
    return scp.send(link, _remote(remote), 0o644, len(data), io.BytesIO(data).read)


def store_file(link: Link, local: AnyPath, remote: AnyPath) -> Op[None]:
    """A local file, regular, into a remote one of the same mode.

    A slash at the end of `remote` makes it the directory that gets it, as in hussh 0.3.3.
    """
    here, there = _local(local), _remote(remote)
    if there.endswith("/"):
        there += os.path.basename(here)
    return scp.store(link, here, there)


def _remote(path: AnyPath) -> str:
    """As text with surrogates; TypeError for what is no path, ValueError for a NUL.

    The shell at the server expands no ``~`` in quotes, and starts at home.
    """
    there = encode_path(path)
    return decode_path(from_home(there, START) if is_at_home(there) else there)


def _local(path: AnyPath) -> str:
    return os.path.expanduser(os.fsdecode(path))
