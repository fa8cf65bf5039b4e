"""The servers of the zoo in the order of docs/servers.md."""

from __future__ import annotations

from .libraries import Asyncssh, Conch, Erlang, Go, NpmSsh2, Paramiko
from .machine import Dropbear, Lsh, OpenSSH, ProFTPD, TinySSH
from .server import Server

__all__ = ["SERVERS"]

SERVERS: tuple[Server, ...] = (
    OpenSSH(),
    Dropbear(),
    TinySSH(),
    Lsh(),
    ProFTPD(),
    Erlang(),
    Go(),
    Asyncssh(),
    Paramiko(),
    Conch(),
    NpmSsh2(),
)
