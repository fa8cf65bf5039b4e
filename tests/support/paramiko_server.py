"""paramiko's SSH server: one connection, password login, and commands that are echoed."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

__all__ = ["PASSWORD", "paramiko_server"]

PASSWORD = "only for the tests"


@contextlib.contextmanager
def paramiko_server(key_exchange: Sequence[str]) -> Iterator[int]:
    """Serve one connection that takes these key exchanges only; yield the port on 127.0.0.1."""
    paramiko: Any = pytest.importorskip("paramiko")
    if not set(key_exchange) <= set(paramiko.Transport._preferred_kex):
        pytest.skip(f"paramiko {paramiko.__version__} has no {key_exchange[0]}")

    class Server(paramiko.ServerInterface):  # type: ignore[misc]
        def check_auth_password(self, username: str, password: str) -> int:
            good = password == PASSWORD
            return int(paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED)

        def check_channel_request(self, kind: str, number: int) -> int:
            return int(paramiko.OPEN_SUCCEEDED)

        def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
            def run() -> None:
                channel.sendall(command)
                channel.send_exit_status(0)
                channel.close()

            threads.append(threading.Thread(target=run))
            threads[-1].start()
            return True

    threads: list[threading.Thread] = []
    transports: list[Any] = []

    def serve() -> None:
        client, _ = listener.accept()
        transport = paramiko.Transport(client)
        transports.append(transport)
        transport.get_security_options().kex = tuple(key_exchange)
        transport.add_server_key(paramiko.ECDSAKey.generate())
        with contextlib.suppress(Exception):  # the client tells of it
            transport.start_server(server=Server())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        threads.append(threading.Thread(target=serve))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            threads[0].join()
            for transport in transports:
                transport.close()
                transport.join()
            for thread in threads:
                thread.join()
