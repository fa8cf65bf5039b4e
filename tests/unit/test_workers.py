"""The threads for calls that may block: reused, bounded, abandoned; no exit waits for them."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

from hussh._protocol.in_use import InUse
from hussh._runtime import workers
from hussh._runtime.workers import Call, call_within, finish

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the test a pool of its own, whose workers end with the test."""
    pool = workers._Pool()
    monkeypatch.setattr(workers, "_pool", pool)
    monkeypatch.setattr(workers, "LINGER", 0.2)
    yield pool
    for worker in list(pool.alive):
        worker.join(PATIENCE)
    assert not pool.alive
    assert not pool.excused


def started(make: Any, *, is_slow: bool = False) -> tuple[Call, threading.Event]:
    """Return a call that has been started, and what is set when it is over."""
    over = threading.Event()
    call = Call(make, over.set, is_slow=is_slow)
    call.start()
    return call, over


def test_a_result_and_an_error() -> None:
    """A call's result is returned, and what it raises is raised."""
    assert call_within(lambda: 42, None) == 42
    with pytest.raises(ZeroDivisionError):
        call_within(lambda: 1 // 0, monotonic() + PATIENCE)


def test_workers_are_reused(pool: Any) -> None:
    """Calls one after the other need one thread."""
    names = set()
    for _ in range(50):
        names.add(call_within(threading.get_ident, None))
        while not pool.idle:  # it has answered, and is about to wait for more
            pass
    assert len(names) == 1
    assert threading.get_ident() not in names


def test_quick_calls_are_bounded(pool: Any) -> None:
    """No more quick calls than allowed are under way; the others wait, and all are made."""
    go, lock = threading.Event(), threading.Lock()
    now, most = 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        go.wait(PATIENCE)
        with lock:
            now -= 1

    calls = [started(work) for _ in range(3 * workers.QUICK)]
    deadline = monotonic() + PATIENCE
    while now < workers.QUICK:
        assert monotonic() < deadline
    go.set()
    assert all(over.wait(PATIENCE) for _, over in calls)
    assert most == workers.QUICK


def test_slow_calls_hold_up_no_quick_one(pool: Any) -> None:
    """However many calls wait for somebody, or have been abandoned, a quick one is made."""
    go = threading.Event()
    slow = [started(go.wait, is_slow=True) for _ in range(workers.QUICK + 5)]
    hung = [started(go.wait) for _ in range(workers.QUICK)]
    deadline = monotonic() + PATIENCE
    while not all(call.has_begun for call, _ in hung):
        assert monotonic() < deadline
    waiting, over = started(lambda: 7)
    assert not waiting.has_begun
    hung[0][0].abandon()
    assert over.wait(PATIENCE)
    assert waiting.get_outcome() == 7
    go.set()
    assert all(over.wait(PATIENCE) for _, over in (*slow, *hung))


class Opened:
    """What a call may return; knows whether it was closed."""

    def __init__(self) -> None:
        """Open."""
        self.closed = threading.Event()

    def close(self) -> None:
        """Be closed."""
        self.closed.set()


@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
def test_what_an_abandoned_call_opens_is_closed(when: str) -> None:
    """Whenever a call is abandoned, what it opens is closed, or it is never made."""
    opened, go = Opened(), threading.Event()

    def work() -> Opened:
        go.wait(PATIENCE)
        return opened

    over = threading.Event()
    call = Call(work, over.set)
    if when == "before":
        call.abandon()
        call.start()
        assert over.wait(PATIENCE)
        assert not opened.closed.is_set()
        go.set()
        return
    call.start()
    if when == "after":
        go.set()
        assert over.wait(PATIENCE)
    call.abandon()
    call.abandon()
    go.set()
    assert opened.closed.wait(PATIENCE)


def test_time_that_is_over() -> None:
    """A deadline ends the wait and not the call, whose result nobody gets."""
    go, done = threading.Event(), threading.Event()

    def work() -> Opened:
        go.wait(PATIENCE)
        done.set()
        return opened

    opened = Opened()
    with pytest.raises(TimeoutError):
        call_within(work, monotonic() + 0.05)
    go.set()
    assert done.wait(PATIENCE)
    assert opened.closed.wait(PATIENCE)


def test_a_last_moment() -> None:
    """An abandoned call may get a moment to end before its waiter goes on."""
    go = threading.Event()
    ended = threading.Event()

    def work() -> None:
        go.wait(PATIENCE)
        ended.set()

    timer = threading.Timer(0.1, go.set)
    timer.start()
    with pytest.raises(TimeoutError):
        call_within(work, monotonic(), moment=PATIENCE)
    assert ended.is_set()
    timer.join()


def test_no_more_threads(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started the caller's own makes the call."""

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers._Worker, "start", fail)
    assert call_within(threading.get_ident, None) == threading.get_ident()
    finish(lambda: None)


def test_a_fork() -> None:
    """A forked child, which has none of the workers, starts its own."""
    assert call_within(lambda: 1, None) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Pythons that see our thread
        child = os.fork()
    if not child:
        status = 1
        with suppress(BaseException):
            status = 0 if call_within(os.getpid, None) == os.getpid() else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_last_use() -> None:
    """What ends something in use is done after the last use, once."""
    events: list[str] = []
    use = InUse()
    with use:
        with use:
            use.end(lambda: events.append("end"))
        assert events == []
    assert events == ["end"]
    with use:
        pass
    use.end(lambda: events.append("again"))
    assert events == ["end", "again"]
