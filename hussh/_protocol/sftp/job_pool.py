"""Runs many small jobs over one SFTP session at once, within one operation.

`get_tree`, `put_tree`, `glob`, `remove_tree` and the mirrors use it. A `Job` is a generator that
yields a request which it made with `JobPool.box` and itself as the tag; it is resumed when one of
its requests is done. Or it yields `Local(call)` for a call that may block, and is resumed with its
result. The calls of all jobs that wait for one are made together, in one `RunBlocking`. The pool
knows nothing of files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from ..._policy.sftp import SFTPLimits
from ..._policy.sftp_server import UNBOUNDED
from ..core import Checkpoint, Op, RunBlocking
from . import wire
from .file_types import Inquiry
from .request import Request
from .session import SftpSession, wait_for_input

__all__ = ["JobPool", "Job", "Local"]

T = TypeVar("T")

#: Jobs at once, and files that they may hold open, at a server that is not known to bear more.
MOST_JOBS = 64
#: The same at others: for the sake of this side.
MOST_ANYWHERE = 2048
#: Bytes that all jobs together may receive or send at once, unless a single job has more.
MOST_BYTES = 16 * 1024 * 1024
#: Messages that may wait for the channel before no more jobs are begun.
BACKLOG = 64
#: Work after which the driver gets to look at the time, in resumptions of jobs and names that
#: these deal with: a server that answers at once must not keep it from that.
MOST_WORK = 1024
#: Calls on this machine that are made together: who gives them up waits until they have ended.
MOST_LOCAL = 128


class Local:
    """A request to make a call on this machine that may block."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call


Job = Generator["Request | Local | None", Any, None]
#: A job, and its answer or error.
_Resumption = tuple[Job, Any, "BaseException | None"]


class JobPool:
    """Runs jobs and the jobs that they add.

    Attributes:
        box: the list into which requests of jobs go when they are done.
        work: resumptions since the driver could last check the time; jobs add to it.
    """

    def __init__(self, session: SftpSession) -> None:
        self.session = session
        self.box: deque[Request] = deque()
        self._waiting: deque[tuple[Callable[[], Job], int]] = deque()
        self._running: dict[Job, int] = {}  # with their bytes
        self._bytes = 0  # of these
        self.current: Job | None = None
        self.work = 0
        #: Called once in a while; it may call the user.
        self.report: Callable[[], Op[None]] | None = None
        self.stopped = False  # a job may set it: the others are given up, `run` returns

    def add(self, start: Callable[[], Job], *, soon: bool = False, size: int = 0) -> None:
        """Begin a job when there is room; with `soon`, before the others.

        `size` is the number of bytes that it receives or sends. A job leaves for later what is too
        large for one request.
        """
        size = size if size <= SFTPLimits.MOST else 0
        (self._waiting.appendleft if soon else self._waiting.append)((start, size))

    def ask(self, kind: int, body: bytes) -> Request:
        """Make a request of the job that runs now, to be yielded."""
        return self.session.machine.request(kind, body, self.box, self.current)

    def ask_about(self, kind: int, handle: bytes, more: bytes = b"") -> Request:
        """Make a request about an open file or directory, to be yielded."""
        return self.session.machine.queue_about(kind, handle, more, self.box, self.current)

    def ask_extended(self, name: bytes, body: bytes) -> Request:
        """Make a request of an extension that has a mere status, to be yielded."""
        return self.session.machine.queue_extended(name, body, box=self.box, tag=self.current)

    @property
    def is_due(self) -> bool:
        """Whether the driver is to look at the time."""
        return self.work >= MOST_WORK

    def wait(self, *requests: Request) -> Generator[Request, Any, None]:
        """Wait, in a job, until all of these requests are done."""
        for request in requests:
            while not request.done:
                yield request

    def run_inquiry(self, inquiry: Inquiry[T]) -> Generator[Any, Any, T]:
        """Run an inquiry about a path, in a job."""
        machine, answer = self.session.machine, None
        while True:
            try:
                kind, body = inquiry.send(answer)  # type: ignore[arg-type]
            except StopIteration as done:
                value: T = done.value
                return value
            answer = self.ask(kind, body)
            try:
                yield from self.wait(answer)
            finally:
                if kind == wire.OPENDIR:
                    machine.abandon(answer)  # closes it

    def run(self) -> Op[None]:
        """Run until no job is left. Jobs handle their own errors; one that raises ends all."""
        session, box = self.session, self.box
        ready: deque[_Resumption] = deque()
        calls: list[tuple[Job, Callable[[], Any]]] = []
        try:
            while True:
                if self.report is not None:
                    yield from self.report()
                session.step()
                while box:
                    request = box.popleft()
                    ready.append((request.tag, request, None))
                room = session.machine.backlog < BACKLOG
                most = self._limit_jobs()
                while room and self._waiting and len(self._running) < most:
                    start, size = self._waiting[0]
                    if self._bytes and self._bytes + size > MOST_BYTES:
                        break
                    self._waiting.popleft()
                    job = start()
                    self._running[job] = size
                    self._bytes += size
                    ready.append((job, None, None))
                if ready:
                    while ready and not self.is_due and len(calls) < MOST_LOCAL:
                        self._resume(*ready.popleft(), ready, calls)
                        self.work += 1
                    if calls:
                        now, calls, self.work = calls, [], 0
                        ready.extend((yield RunBlocking(partial(_call_all, now))))
                    elif self.is_due or session.has_more:
                        self.work = 0
                        yield session.get_wait() if session.has_more else Checkpoint()
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

    def _limit_jobs(self) -> int:
        machine = self.session.machine
        bears_many = machine.limits.tells_handles and machine.server.most_requests == UNBOUNDED
        most = MOST_ANYWHERE if bears_many else MOST_JOBS
        return min(most, max(1, machine.limits.open_handles // 2))

    def _resume(
        self,
        job: Job,
        answer: Any,
        error: BaseException | None,
        ready: deque[_Resumption],
        calls: list[tuple[Job, Callable[[], Any]]],
    ) -> None:
        if job not in self._running:
            return  # it ended without waiting for this request
        self.current = job
        try:
            need = job.send(answer) if error is None else job.throw(error)
        except StopIteration:
            self._bytes -= self._running.pop(job)
            return
        if isinstance(need, Local):
            calls.append((job, need.call))
        elif need is None:
            ready.append((job, None, None))


def _call_all(calls: list[tuple[Job, Callable[[], Any]]], _: float | None) -> list[_Resumption]:
    answers: list[_Resumption] = []
    for job, call in calls:
        try:
            answers.append((job, call(), None))
        except OSError as error:
            answers.append((job, None, error))
    return answers
