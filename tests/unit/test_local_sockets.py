"""The sockets of this machine at which tunnels begin: what is removed with them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hussh._connect import local_sockets
from hussh._connect.local_sockets import listen_on
from hussh._policy.forwarding import Address

PAUSE = 0.2  # seconds that the other thread gets


def test_removed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that remove a listener's file do not remove the next one, which has its inode."""
    path = tmp_path / "socket"
    listener = listen_on(Address(path=str(path)))
    looked, replaced = threading.Event(), threading.Event()

    def identity(_path: str) -> tuple[int, int] | None:
        file = listener._file
        if not looked.is_set():
            looked.set()
            replaced.wait(PAUSE)
        return file

    monkeypatch.setattr(local_sockets, "_get_identity", identity)
    other = threading.Thread(target=listener.unlink)
    other.start()
    looked.wait()
    listener.unlink()
    path.write_text("mine")
    replaced.set()
    other.join()
    listener.close()
    assert path.read_text() == "mine"


def test_another_file(tmp_path: Path) -> None:
    """What is no socket is never removed, whatever its inode is."""
    path = tmp_path / "socket"
    listener = listen_on(Address(path=str(path)))
    path.unlink()
    path.write_text("mine")
    found = path.lstat()
    listener._file = found.st_dev, found.st_ino
    listener.unlink()
    listener.close()
    assert path.read_text() == "mine"
