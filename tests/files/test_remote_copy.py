"""`remote_copy` where both servers have bastions, and addresses that mean different servers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hussh import Connection
from tests.support.sshd import Sshd


def test_between_servers_behind_different_bastions(sshd_factory: Callable[..., Sshd]) -> None:
    """Each end has a bastion of its own; the same address behind each is not the same server."""
    servers = {name: sshd_factory(name=name) for name in ("one", "two", "left", "right")}

    def log_in(server: Sshd, **options: Any) -> Connection:
        alice = server.alice
        return Connection(
            server.host, server.port, alice.name, private_key=alice.key.path, timeout=30_000,
            **options,
        )  # fmt: skip

    data = os.urandom(3_000_000)
    with (
        log_in(servers["one"]) as one,
        log_in(servers["two"]) as two,
        log_in(servers["left"], proxy_jump=one) as source,
        log_in(servers["right"], proxy_jump=two) as dest,
        log_in(servers["left"], proxy_jump=two) as same_address,
    ):
        source.sftp_write_data(data, "file")
        source.remote_copy("file", dest, "copy")
        assert dest.sftp_read("copy", encoding=None) == data
        assert (servers["right"].alice.files / "copy").read_bytes() == data
        # As far as anybody can tell from here this might be another server.
        same_address.remote_copy("file", source, "copy")
    assert [forward.target for forward in servers["one"].forwards()] == [
        (servers["left"].host, servers["left"].port)
    ]
    assert len(servers["two"].forwards()) == 2
