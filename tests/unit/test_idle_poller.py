"""The idle thread's poller reports once, calls nothing in vain, and knows a number used again."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from typing import Any

import pytest

from hussh._runtime.idle_thread import _Epoll
from hussh._runtime.wakeup_fd import WakeupFd

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")


class Counting:
    """An epoll object that counts the calls which change it."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.calls = 0

    def modify(self, fd: int, mask: int) -> None:
        self.calls += 1
        self._real.modify(fd, mask)

    def register(self, fd: int, mask: int) -> None:
        self.calls += 1
        self._real.register(fd, mask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture
def poller() -> Iterator[_Epoll]:
    """Make a poller that counts its calls."""
    wakeup = WakeupFd()
    made = _Epoll(wakeup)
    made._epoll = Counting(made._epoll)  # type: ignore[assignment]
    yield made
    made.close()
    wakeup.close()


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """Yield the reading end of a pipe in which a byte lies."""
    reading, writing = os.pipe()
    os.write(writing, b"x")
    yield reading
    os.close(reading)
    os.close(writing)


def test_each_report_costs_one_call(poller: Any) -> None:
    """What is set already costs no call; what was reported is set by one, and reported again."""
    with full_pipe() as fd, full_pipe() as other:
        for round_number in range(1, 4):
            poller.set(fd, select.POLLIN)
            poller.set(fd, select.POLLIN)
            assert poller._epoll.calls == round_number
            assert poller.wait(0) == [fd]
            assert poller.wait(0) == []
        poller.set(other, select.POLLIN)
        poller.set(other, 0)
        assert poller.wait(0) == []
        poller.set(other, select.POLLIN)
        assert poller.wait(0) == [other]


def test_a_number_that_another_file_has_now(poller: Any) -> None:
    """After `anew` an fd is set although one of that number, which was closed, had been."""
    reading, writing = os.pipe()
    with full_pipe() as other:
        poller.set(reading, select.POLLIN)
        os.dup2(other, reading)  # epoll forgets a file that is closed, and tells nobody
        assert poller.wait(0) == []
        poller.anew(reading)
        poller.set(reading, select.POLLIN)
        assert poller.wait(0) == [reading]
    os.close(reading)
    os.close(writing)


def test_failure_leaves_nothing_noted(poller: Any) -> None:
    """An fd that could not be set counts as not set."""
    with full_pipe() as fd:
        closed = os.dup(fd)
        os.close(closed)
        with pytest.raises(OSError, match="Bad file"):
            poller.set(closed, select.POLLIN)
        os.dup2(fd, closed)
        poller.set(closed, select.POLLIN)
        assert poller.wait(0) == [closed]
        os.close(closed)
