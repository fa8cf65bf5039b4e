"""A Ctrl-C at any place at which a tree ends: its descriptors and its program do not stay."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from types import CodeType

import pytest

from hussh._connect.proxy_command import start_proxy
from hussh._connect.tcp import SocketStream
from hussh._runtime.stream import Stream
from hussh._runtime.thread_driver import ThreadDriver
from tests.timeouts.interrupted_everywhere import Injector

CODE = ("/hussh/_runtime/thread_driver.py", "/hussh/_runtime/driver.py",
        "/hussh/_runtime/wakeup_fd.py", "/hussh/_runtime/workers.py",
        "/hussh/_connect/tcp.py", "/hussh/_connect/proxy_command.py")  # fmt: skip


def is_ending(code: CodeType) -> bool:
    """Tell whether code has a part in ending; a finalizer's exceptions would only be printed."""
    return code.co_filename.endswith(CODE) and code.co_name != "__del__"


def socket_stream() -> Stream:
    """Return one end of a pair, without the other."""
    ours, theirs = socket.socketpair()
    theirs.close()
    return SocketStream(ours)


def proxy_stream() -> Stream:
    """Return the stream of a program that is still running."""
    return start_proxy(["sleep", "1000"])


def descriptors() -> set[str]:
    """Return what this process has open, besides the folder that lists it."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{number} {os.readlink('/proc/self/fd/' + number)}")
    return found


def what_stays(before: set[str]) -> set[str]:
    """Return what is open besides, once the threads that all trees share have had their time."""
    deadline = monotonic() + 10
    while (left := descriptors() - before) and monotonic() < deadline:
        gc.collect()
        sleep(0.001)
    return left


@pytest.mark.parametrize("make", [socket_stream, proxy_stream])
@pytest.mark.parametrize("again", [False, True], ids=["collected", "ended-again"])
def test_interrupt_anywhere(make: Callable[[], Stream], again: bool) -> None:
    """Whatever an interrupt of `end` left is closed by a second one, or by the finalizer."""
    make().close()  # the workers have started
    number = 0
    while True:
        number += 1
        before = descriptors()
        injector = Injector(number, is_ending)
        driver = ThreadDriver(make())
        injector.run(partial(driver.end, driver.root))
        if again:
            driver.end(driver.root)
            assert not what_stays(before), injector.where
        del driver
        assert not what_stays(before), injector.where
        if not injector.where:
            break
    assert number > 10
