"""A Ctrl-C at any place at which something is opened: no descriptor stays open for that."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import hussh
from hussh import Connection, HusshError
from hussh._connect.agent_socket import ask_agent
from hussh._connect.given_stream import wrap_given_stream
from hussh._connect.owned_sockets import accept_socket
from hussh._connect.tcp import SocketStream, dial
from hussh._policy.file_cache import _read_stamps
from hussh._policy.hostkeys.known_hosts import KnownHosts
from hussh._policy.hostkeys.known_hosts_record import append_line
from hussh._policy.keys.key_files import read_private_key
from hussh._protocol.sftp.confined_dir import ConfinedDir, ConfinedSink
from hussh._protocol.sftp.local_file import FileSink, FileSource
from tests.support.agent import SshAgent
from tests.support.keys import Keys
from tests.timeouts.interrupted_everywhere import Injector

from .test_end_interrupts import descriptors, what_stays

PACKAGE = os.path.dirname(hussh.__file__) + os.sep
LIST_KEYS = b"\0\0\0\1\x0b"
LONG = os.environ.get("HUSSH_LONG") == "1"


def is_ours(code: CodeType) -> bool:
    """Tell whether code is hussh's."""
    return code.co_filename.startswith(PACKAGE)


class Outside(Injector):
    """Raises nothing within finalizers, which would only be printed."""

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Trace what no finalizer has called."""
        above: FrameType | None = frame
        while above is not None:
            if above.f_code.co_name == "__del__":
                return None
            above = above.f_back
        return super().enter(frame, event, argument)


def check_all(call: Callable[[], object], stride: int = 1, least: int = 5) -> None:
    """Interrupt the call at every place, or some of them, and look what is open afterwards."""
    call()  # what is loaded or remembered once is there
    number = 1
    while True:
        before = descriptors()
        injector = Outside(number, is_ours)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with suppress(HusshError):
                injector.run(call)
            left = what_stays(before)
        assert not left, injector.where
        assert not told, f"{injector.where}: {told[0].message}"
        if not injector.where:
            break
        number += stride
    assert number > least


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen, and let whoever connects wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_tcp(listener: socket.socket) -> None:
    """A socket that connects, that has connected, or that cannot."""
    host, port = listener.getsockname()

    def connect() -> None:
        stream = dial(host, port, None)
        accepted = SocketStream()
        accept_socket(accepted.opened, listener)
        stream.close()
        accepted.close()
        with contextlib.suppress(HusshError):
            dial("127.0.0.1", 1, None)

    check_all(connect, least=100)


def test_connection(tmp_path: Path, keys: Keys) -> None:
    """A whole connect to where nobody listens, with a file of host keys and one of a key."""
    known = tmp_path / "known_hosts"
    known.write_text("h ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH\n")
    key = keys.get()

    def connect() -> None:
        with pytest.raises(HusshError):
            Connection("127.0.0.1", 1, "u", private_key=str(key.path), known_hosts=str(known))

    check_all(connect, 1 if LONG else 31, least=100)


def test_given_stream() -> None:
    """The pair of sockets before an object that has only `send` and `recv`."""

    class Given:
        def send(self, data: bytes) -> int:
            return len(data)

        def recv(self, size: int) -> bytes:
            return b""

        def close(self) -> None:
            pass

    check_all(lambda: wrap_given_stream(Given()).close(), 1 if LONG else 3, least=20)


def test_agent(agent: SshAgent) -> None:
    """The socket to an agent."""
    check_all(lambda: ask_agent(str(agent.socket), LIST_KEYS, "asked").call(5.0))


def files(folder: Path, keys: Keys) -> dict[str, Callable[[], Any]]:
    """Return what opens files in the thread that calls it, by name."""
    known, key, small = folder / "known", keys.get().path, folder / "small"
    known.write_text("")
    small.write_bytes(b"x" * 10)

    def confined() -> None:
        root = ConfinedDir(os.fsencode(folder / "tree"))
        try:
            root.make_folder((b"a",))
            root.write_file((b"a", b"f"), memoryview(b"data"), 0o600, None)
            sink = ConfinedSink(root, (b"a", b"g"), 0o600, None)
            sink.begin()
            sink.end(0)
        finally:
            root.close()

    def sink() -> None:
        made = FileSink(os.fsencode(folder / "made"))
        made.begin()
        made.write([(0, memoryview(b"data"))])
        made.end(4)

    return {
        "stamps": lambda: _read_stamps([str(known), str(folder / "none")]),
        "known_hosts": lambda: KnownHosts.read([str(known)]),
        "recorded": lambda: append_line(known, b"line\n"),
        "key": lambda: read_private_key(str(key)),
        "source": lambda: FileSource(os.fsencode(small)).close(),
        "sink": sink,
        "confined": confined,
    }


def test_files(tmp_path: Path, keys: Keys) -> None:
    """Files of keys and host keys, and the local files of transfers."""
    for call in files(tmp_path, keys).values():
        check_all(call)
    gc.collect()
