"""Signal handlers that use the connection which they interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from hussh import ConnectionClosed
from tests.sharing.conftest import Login
from tests.sharing.helpers import Job
from tests.support.sshd import Sshd

Alarm = Callable[[Callable[[], bool]], None]


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    """Call a function from SIGALRM's handler, again and again until it returns True."""

    def start(call: Callable[[], bool]) -> None:
        def handler(number: int, frame: object) -> None:
            if call():
                signal.setitimer(signal.ITIMER_REAL, 0)
            else:
                signal.setitimer(signal.ITIMER_REAL, 0.02)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.getsignal(signal.SIGALRM)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("followed", [False, True], ids=["alone", "beside-others"])
def test_handler_runs_commands(
    followed: bool, alarm: Alarm, bastion: Sshd, sshd_factory: Callable[..., Sshd], login: Login
) -> None:
    """A handler that interrupts a command runs others on the same way, and the first goes on."""
    target = sshd_factory(name="target")
    first = login(bastion)
    jumped = login(target, proxy_jump=first)
    go = target.alice.files / "go"
    until = f"until test -e {target.alice.path('go')}; do sleep 0.05; done; echo"
    outputs: list[str] = []

    def handle() -> bool:
        try:
            outputs.extend(each.execute("echo $SERVER_NAME").stdout for each in (first, jumped))
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise
            return False  # it hit a step, not a wait
        go.touch()
        return True

    # Another thread that waits first is the one that reads for both.
    other = Job(lambda: jumped.execute(f"{until} other").stdout) if followed else None
    if other is not None:
        target.wait_for_log("Starting session: command")
    alarm(handle)
    assert jumped.execute(f"{until} went").stdout == "went\n"
    assert outputs[-2:] == ["bastion\n", "target\n"]
    if other is not None:
        assert other.result() == "other\n"


def test_handler_closes(alarm: Alarm, bastion: Sshd, target: Sshd, login: Login) -> None:
    """A handler may close the connection that it interrupted: the command ends with an error."""
    jumped = login(target, proxy_jump=login(bastion))
    begun = threading.Event()

    def handle() -> bool:
        if begun.is_set():
            jumped.close()
        return begun.is_set()

    def watch() -> None:
        target.wait_for_log("Starting session: command")
        begun.set()

    watcher = Job(watch)
    alarm(handle)
    with pytest.raises(ConnectionClosed):
        jumped.execute("exec sleep 1000", timeout=30_000)
    watcher.result()
