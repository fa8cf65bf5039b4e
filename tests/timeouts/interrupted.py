"""A program that is interrupted by signals: run by ``test_signals.py``, talks in lines.

Its arguments are a task and a JSON object with the options of ``hussh.Connection``. Each line that
it writes is ``word value``; the test waits for a word before it sends a signal. Times are those of
the monotonic clock, which all processes share.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from hussh import Connection

Options = dict[str, Any]


def say(word: str, value: object = "") -> None:
    """Write one line for the test."""
    sys.stdout.write(f"{word} {value}\n")
    sys.stdout.flush()


def _jump(options: Options) -> Connection | None:
    before: list[Options] = options.pop("before", [])
    bastion = None
    for hop in before:
        bastion = Connection(**hop, proxy_jump=bastion)
    return bastion


def threads_left() -> int:
    """Return how many threads are left once the workers that rest have ended.

    A worker of `hussh` rests for a second after a call. The first connection's has made such a
    call: it imported the algorithms.
    """
    for thread in threading.enumerate():
        if thread.name == "hussh-worker":
            thread.join(30)
    return threading.active_count()


def connect(options: Options) -> None:
    """Connect, be interrupted, and tell when; then show that the bastion still works."""
    bastion = _jump(options)
    try:
        say("begin")
        Connection(**options, proxy_jump=bastion)
    except KeyboardInterrupt:
        say("interrupted", monotonic())
    if bastion is not None:
        say("alive", bastion.execute("echo yes").stdout.strip())
        bastion.close()
    say("threads", threads_left())


def execute(options: Options) -> None:
    """Run a long command, be interrupted; the connection works in ``finally``."""
    bastion = _jump(options)
    with Connection(**options, proxy_jump=bastion) as connection:
        try:
            say("begin")
            connection.execute("echo started; exec sleep 60")
        except KeyboardInterrupt:
            say("interrupted", monotonic())
        finally:
            say("alive", connection.execute("echo yes").stdout.strip())
    if bastion is not None:
        bastion.close()
    say("threads", threads_left())


def storm(options: Options) -> None:
    """Be interrupted again and again while other threads use the same connection."""
    rounds = options.pop("rounds")
    connection = Connection(**options)
    wrong: list[str] = []
    stop = threading.Event()
    lost = 0

    def unraisable(problem: Any) -> None:
        # Python drops what a handler raises while a finalizer runs; the test must go on.
        nonlocal lost
        lost += 1
        if problem.exc_type is not KeyboardInterrupt:
            wrong.append(repr(problem.exc_value))

    sys.unraisablehook = unraisable

    def neighbour(name: str) -> None:
        filler = name * 50_000
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                result = connection.execute(f"echo {turn}; cat", input=filler)
            except BaseException as error:
                wrong.append(f"{name}: {error!r}")
                return
            if result.stdout != f"{turn}\n{filler}" or result.status != 0:
                wrong.append(f"{name}: turn {turn}: {len(result.stdout)} bytes, {result.status}")

    threads = [threading.Thread(target=neighbour, args=(name,), daemon=True) for name in "ab"]
    for thread in threads:
        thread.start()
    calls = 0
    for number in range(rounds):
        try:
            before = lost
            say("ready", number)
            while lost == before:
                calls += 1
                text = f"{number}-{calls}"
                result = connection.execute(f"echo {text}")
                if (result.stdout, result.status) != (f"{text}\n", 0):
                    wrong.append(f"main: {text}: {result!r}")
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            wrong.append(f"main: {error!r}")
    stop.set()
    for thread in threads:
        thread.join()
    say("alive", connection.execute("echo yes").stdout.strip())
    connection.close()
    say("wrong", json.dumps(wrong[:5]))
    say("calls", calls)


def alarms(options: Options) -> None:
    """Transfer much data while a timer's signal comes a thousand times and more."""
    count = 0

    def tick(*_: object) -> None:
        nonlocal count
        count += 1

    signal.signal(signal.SIGALRM, tick)
    connection = Connection(**options)
    data = bytes(range(256)) * (1 << 12)
    rounds = 0
    same = True
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    while rounds < 4 or count < 1000:
        result = connection.execute("cat", input=data * 16)
        same = same and result.stdout_bytes == data * 16 and result.status == 0
        rounds += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    connection.close()
    say("same", same)
    say("ticks", count)


TASKS: dict[str, Callable[[Options], None]] = {
    "connect": connect,
    "execute": execute,
    "storm": storm,
    "alarms": alarms,
}

if __name__ == "__main__":
    # A hang shall say where it hangs, and end.
    faulthandler.dump_traceback_later(90, exit=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    TASKS[sys.argv[1]](json.loads(sys.argv[2]))
    say("done")
