"""Many small jobs over one SFTP session at once, within one operation.

A `Job` is a generator that yields a request which it made with `JobPool.box` and
itself as the tag, and is resumed when one of its requests is done; or yields
`Local(call)` for a call that may block and is resumed with its result.  The
calls of all jobs that stand at one are made together, in one `RunBlocking`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ..core import Op, RunBlocking
from .request import Request
from .session import SftpSession, wait_for_input

__all__ = ["JobPool", "Job", "Local"]

#: Jobs at once, and files that they may hold open at the server.
MOST_JOBS = 64
#: Messages that may wait for the channel before no more jobs are begun.
BACKLOG = 64
#: Work without any wait after which the driver gets to look at the time, in resumptions of jobs:
#: a server that answers at once must not keep it from that.
MOST_WORK = 4096


class Local:
    """A call on this machine that may block."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call


Job = Generator["Request | Local | None", Any, None]


class JobPool:
    """Runs jobs and the jobs that they add.

    Attributes:
        box: where requests of jobs go when they are done.
        work: done since the driver could look at the time; jobs add what takes long.
    """

    def __init__(self, session: SftpSession) -> None:
        self.session = session
        self.box: deque[Request] = deque()
        self._waiting: deque[Callable[[], Job]] = deque()
        self._running: dict[Job, None] = {}
        self.current: Job | None = None
        self.work = 0
        self.stopped = False  # a job may set it: the others are given up, `run` returns

    def add(self, start: Callable[[], Job], *, soon: bool = False) -> None:
        """Begin a job when there is room; `soon`: before the others."""
        (self._waiting.appendleft if soon else self._waiting.append)(start)

    def ask(self, kind: int, body: bytes) -> Request:
        """A request of the job that runs now; to be yielded."""
        return self.session.machine.request(kind, body, self.box, self.current)

    def about(self, kind: int, handle: bytes, more: bytes = b"") -> Request:
        """The same about an open file or directory."""
        return self.session.machine.about(kind, handle, more, self.box, self.current)

    def wait(self, *requests: Request) -> Generator[Request, Any, None]:
        """For jobs: until all of these are done."""
        for request in requests:
            while not request.done:
                yield request

    def run(self) -> Op[None]:
        """Until no job is left.  Jobs see to their own errors; one that raises ends all."""
        session, box = self.session, self.box
        most = min(MOST_JOBS, max(1, session.machine.limits.open_handles // 2))
        ready: deque[tuple[Job, Any, BaseException | None]] = deque()
        calls: list[tuple[Job, Callable[[], Any]]] = []
        try:
            while True:
                session.step()
                while box:
                    request = box.popleft()
                    ready.append((request.tag, request, None))
                room = session.machine.backlog < BACKLOG
                while room and self._waiting and len(self._running) < most:
                    job = self._waiting.popleft()()
                    self._running[job] = None
                    ready.append((job, None, None))
                if ready:
                    while ready and self.work < MOST_WORK:
                        self._resume(*ready.popleft(), calls)
                        self.work += 1
                    if calls or self.work >= MOST_WORK:
                        now, calls, self.work = calls, [], 0
                        answers = yield RunBlocking(partial(_call_all, now))
                        ready.extend(answers)
                    if self.stopped:
                        return
                    continue
                if not self._running and not self._waiting:
                    return
                yield from wait_for_input(session)
        finally:
            for job in list(self._running):
                job.close()
            session.step()

    def _resume(
        self,
        job: Job,
        answer: Any,
        error: BaseException | None,
        calls: list[tuple[Job, Callable[[], Any]]],
    ) -> None:
        if job not in self._running:
            return  # it ended without waiting for this request
        self.current = job
        try:
            need = job.send(answer) if error is None else job.throw(error)
        except StopIteration:
            del self._running[job]
            return
        if isinstance(need, Local):
            calls.append((job, need.call))


def _call_all(
    calls: list[tuple[Job, Callable[[], Any]]], _: float | None
) -> list[tuple[Job, Any, BaseException | None]]:
    answers: list[tuple[Job, Any, BaseException | None]] = []
    for job, call in calls:
        try:
            answers.append((job, call(), None))
        except OSError as error:
            answers.append((job, None, error))
    return answers
