"""Judging single calls: is the answer right, or a typed error of hussh, and in time?

For the client of ``scripts/chaos``. On a loaded machine the client itself is late. So a thread of
the same process does nothing but sleep for short times; how much longer it slept, and how long the
calling thread waited for a core (``/proc/thread-self/schedstat``), is not the call's fault.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from hussh import HusshError
from hussh.errors import CommandTimeout, ConnectTimeout

__all__ = ["LEFT_BEHIND", "SLACK", "Calls", "Control", "Stop"]

T = TypeVar("T")
#: Seconds that a call may take beyond its limit.
SLACK = 0.5
#: What a finding begins with that its client keeps for as long as it runs.
LEFT_BEHIND = "left behind: "
_TICK = 0.02


class Stop(Exception):
    """The call failed as it may; what builds upon its answer is left out."""


class Control:
    """The thread that measures how late this process is; entered for the time of a round."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[float, float]] = deque(maxlen=10_000)  # when, how late
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._end.wait(_TICK):
            now = time.monotonic()
            self._ticks.append((now, now - before - _TICK))
            before = now

    def lateness(self, begin: float) -> float:
        """Return how many seconds the thread was late since then."""
        late = 0.0
        for when, lost in reversed(self._ticks):
            if when < begin:
                break
            late += max(0.0, lost)
        return late


class Calls:
    """The calls of one round.

    Attributes:
        limit: seconds that each may take.
        counts: how often there was which outcome: "right", "cancelled" or the name of an error.
        findings: a line for each call that was wrong, of another type, or late.
        worst: the most seconds beyond limit and slack that the load excused.
    """

    def __init__(
        self,
        limit: float,
        control: Control,
        *,
        benign: bool = False,
        allowed: tuple[type[BaseException], ...] = (),
    ) -> None:
        """Also allow the errors of these classes; ``benign`` allows no other than time-outs."""
        self.limit = limit
        self._control = control
        self._benign = benign
        self._allowed = allowed
        self.counts: dict[str, int] = {}
        self.findings: list[str] = []
        self.worst = 0.0

    def count(self, outcome: str) -> None:
        """Count one outcome."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1

    async def __call__(
        self, name: str, make: Callable[[], Awaitable[T]], limit: float | None = None
    ) -> T:
        """Make one call, and return its answer.

        Raises:
            Stop: it ended with an error that it may end with, or with a finding.
        """
        allowed = self.limit if limit is None else limit
        begin, waited = time.monotonic(), _waited()
        try:
            answer = await make()
        except HusshError as error:
            self.count(type(error).__name__)
            if self._benign and not isinstance(error, CommandTimeout | ConnectTimeout):
                self.findings.append(f"{name}: {error!r}, and nothing was broken")
            raise Stop from error
        except self._allowed as error:
            self.count(type(error).__name__)
            raise Stop from error
        except Exception as error:
            self.findings.append(f"{name}: {type(error).__module__}.{error!r} of no type of ours")
            self.findings.append(_where(error))
            raise Stop from error
        finally:
            self._judge_time(name, allowed, begin, _waited() - waited)
        return answer

    def expect(self, name: str, is_right: bool, got: object) -> None:
        """Count a right answer; a wrong one is a finding."""
        if is_right:
            self.count("right")
        else:
            self.count("WRONG")
            self.findings.append(f"{name}: wrong answer {str(got)[:400]}")

    def _judge_time(self, name: str, limit: float, begin: float, waited: float) -> None:
        took = time.monotonic() - begin
        if took > limit + SLACK:
            excuse = waited + self._control.lateness(begin + limit)
            if took > limit + SLACK + excuse:
                self.findings.append(
                    f"{name}: took {took:.3f} s with a limit of {limit} s; "
                    f"the load excuses {excuse:.3f} s"
                )
            else:
                self.worst = max(self.worst, took - limit - SLACK)


def _waited() -> float:
    """Return the seconds that this thread has waited for a core so far."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, MemoryError):  # no descriptors, or a kernel without it
        return 0.0


def _where(error: BaseException) -> str:
    import traceback

    lines: list[Any] = traceback.format_exception(error)
    return "".join(lines)[-3000:]
