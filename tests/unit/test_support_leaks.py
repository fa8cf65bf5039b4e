"""What a test leaves behind is seen: descriptors, threads, processes, files."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hussh._runtime.workers import call_within
from tests.support import leaks, outside
from tests.support.netns import Network
from tests.support.processes import read_process, wait_gone
from tests.support.relay import Relay
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
RelayFactory = Callable[..., Relay]
needs_root = pytest.mark.needs_root


def test_leak_of_a_descriptor_is_seen() -> None:
    """A listening socket that stays open is reported as one."""
    watch = leaks.Watch("inner")
    with socket.create_server(("127.0.0.1", 0)):
        (line,) = watch.settle()
    assert "listening socket ('127.0.0.1'" in line
    assert leaks.Watch("inner").settle() == []


def test_leak_of_a_thread_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that still runs is reported by name."""
    monkeypatch.setattr(leaks, "GRACE", 0.01)
    watch = leaks.Watch("inner")
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-over")
    thread.start()
    try:
        assert watch.settle() == ["thread: left-over"]
    finally:
        stop.set()
        thread.join()


def test_leak_of_a_zombie_is_seen() -> None:
    """A child that ended but was never waited for is reported, and then reaped."""
    watch = leaks.Watch("inner")
    child = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", ""], os.environ)
    assert wait_gone([child], 20.0) == []
    (line,) = watch.settle()
    assert f"pid {child} (Z)" in line
    assert read_process(child) is None


def test_leak_of_an_orphan_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grandchild whose parent is gone is reported, and then ended."""
    monkeypatch.setattr(leaks, "GRACE", 0.01)
    watch = leaks.Watch("inner")
    started = subprocess.run(
        ["sh", "-c", "sleep 987 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, text=True
    )
    orphan = int(started.stdout)
    (line,) = watch.settle()
    assert f"pid {orphan}" in line
    assert "sleep 987" in line
    assert wait_gone([orphan], 20.0) == []


def test_file_outside_the_folder_is_seen(tmp_path: Path) -> None:
    """A file that is made where none may be is reported; hidden ones and older ones are not."""
    (tmp_path / "older").touch()
    watch = leaks.Watch("inner", [tmp_path, tmp_path / "missing"])
    (tmp_path / "copy").touch()
    (tmp_path / ".history").touch()
    assert watch.settle() == [f"file outside the test's own folder: {tmp_path / 'copy'}"]


def test_home_and_working_copy_are_watched(tmp_path: Path, home: Path) -> None:
    """The folders in which no test may make a file are real ones, and none of this test's."""
    real = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert {real, real / ".ssh", Path(__file__).parents[2]} <= set(outside.WATCHED)
    assert not any(folder.is_relative_to(tmp_path) for folder in outside.WATCHED)
    assert Path(tempfile.gettempdir()).is_relative_to(tmp_path.parent)


def test_spared_things_outlive_the_test() -> None:
    """What starts inside spared() is nobody's leftover."""
    watch = leaks.Watch("inner")
    with leaks.spared():
        server = socket.create_server(("127.0.0.1", 0))
    try:
        assert watch.settle() == []
    finally:
        server.close()


def test_workers_are_where_their_thread_is(network: Network) -> None:
    """A call that hussh makes in a worker is in the place of who asks, also after another one."""

    def place() -> int:
        return os.stat("/proc/thread-self/ns/net").st_ino

    outside = call_within(place, None)  # its worker rests now
    with network.enter("client"):
        assert call_within(place, None) == place() != outside
    assert call_within(place, None) == place() == outside
